// Minimal filtering F(4x4, 3x3) in whole numbers: the 4x4 outputs of a tile from its 6x6 inputs with 36
// products per pair of channels instead of 144, and the same sums as a direct convolution, bit for bit.
// (S. Winograd, "Arithmetic Complexity of Computations", 1980; the form with tiles is that of A. Lavin and
// S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4.1.)
//
//   y = A [(G w G') * (B d B')] A' / 576, all of it with the points 0, 1, -1, 2, -2, infinity:
//
//       6  0  0        4  0 -5  0  1  0
//       1  1  1        0  4  4 -1 -1  0        1  4  4  1  1  0   / 24
//   G = 1 -1  1    B = 0 -4  4  1 -1  0    A = 0  2 -2  1 -1  0   / 12
//       1  2  4        0 -2 -1  2  1  0        0  1  1  1  1  0   /  6
//       1 -2  4        0  2 -1 -2  1  0        0  1 -1  2 -2  1   /  6
//       0  0  6        0  4  0 -5  0  1
//
// Why that is exact: inputs of 0 .. 255 come to at most 17,340 without sign and weights to at most 6,272, so
// both fit 16 bits, and so does the sum of two products 32. All further sums are taken modulo 2^32, which is
// a ring: no sum is lost by leaving 32 bits in between. The divisors are 9 times a power of two. 9 has an
// inverse modulo 2^32; the power, 64 at most, is shifted out, which is right as long as the sum itself stays
// in 26 bits with its sign. fits_winograd() asks that of the weights.
//
// winograd4x4 (packing): [n/16][36 positions][ceil(k/16) * 8 pairs of input channels][16 output channels][2]
// s16: G w G', position 6 i + j in row i and column j. Missing channels are zero.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/conv_int8/conv_int8.h"

namespace pyruntime {
namespace conv_int8 {

constexpr int kWinogradTile = 4;        // outputs of a tile along an axis
constexpr int kWinogradInputs = 6;      // inputs along an axis
constexpr int kWinogradPositions = 36;  // of a transformed tile

// Whether sums of a 3x3 window are exact. `largest_sum` is the largest, over the output channels, of what
// the positive or the negative weights of one come to, without sign.
inline bool fits_winograd(int taps, int64_t largest_sum) {
  return taps == 9 && 255 * largest_sum < int64_t{1} << 25;
}

[[gnu::always_inline]] static inline ptrdiff_t winograd_channels(int k) { return (k + 15) / 16 * 16; }

// Tiles between two reads of the weights, which are transformed at once. Two times 6 suit weights that stay
// in L2; others come from memory each time (4.7 MB for 256 by 256 channels), so they get as many tiles as
// stay in L2, 72 bytes a channel.
[[gnu::always_inline]] static inline int winograd_tiles(int k) {
  if (k <= 160) return 12;
  const ptrdiff_t tiles = (320 << 10) / (kWinogradPositions * 2 * winograd_channels(k));
  return tiles > 18 ? 18 : tiles > 1 ? static_cast<int>(tiles) : 1;
}

// Bytes from a position of all transformed tiles to the next: an odd number of cache lines, so that the 36
// do not meet in a few sets of the first-level cache.
[[gnu::always_inline]] static inline ptrdiff_t winograd_position_bytes(int k) {
  return (winograd_tiles(k) * winograd_channels(k) * 2 + 63) / 64 * 64 | 64;
}

size_t packed_bytes_winograd4x4(const ConvInt8Weights& weights);
void pack_winograd4x4(const ConvInt8Weights& weights, void* packed);

// The transformed inputs, then the products of 16 output channels: s32 [36][tiles][16].
inline size_t scratch_bytes_winograd4x4(const ConvInt8Args& args) {
  const size_t products = static_cast<size_t>(winograd_tiles(args.k)) * 16 * sizeof(int32_t);
  return kWinogradPositions * (static_cast<size_t>(winograd_position_bytes(args.k)) + products);
}

// winograd4x4_l2: winograd4x4, for kernels that transform as many tiles at once as stay in L2 with their
// products: inputs [36][tiles][channels] s16, products [tiles][2 panels][36][16] s32.
[[gnu::always_inline]] static inline ptrdiff_t winograd_l2_tile_bytes(int k) {
  return (static_cast<ptrdiff_t>(k) + 31) / 32 * 64;
}

[[gnu::always_inline]] static inline int winograd_l2_tiles(int k) {
  constexpr ptrdiff_t kProducts = kWinogradPositions * 32 * 4, kMostTiles = 28;
  const ptrdiff_t tiles = (640 << 10) / (kWinogradPositions * winograd_l2_tile_bytes(k) + kProducts);
  return static_cast<int>(tiles > kMostTiles ? kMostTiles : tiles > 1 ? tiles : 1);
}

[[gnu::always_inline]] static inline ptrdiff_t winograd_l2_position_bytes(int k) {
  return winograd_l2_tiles(k) * winograd_l2_tile_bytes(k) | 64;
}

inline size_t packed_bytes_winograd4x4_l2(const ConvInt8Weights& weights) {
  return packed_bytes_winograd4x4(weights);
}

inline void pack_winograd4x4_l2(const ConvInt8Weights& weights, void* packed) {
  pack_winograd4x4(weights, packed);
}

inline size_t scratch_bytes_winograd4x4_l2(const ConvInt8Args& args) {
  const size_t products = static_cast<size_t>(winograd_l2_tiles(args.k)) * 32 * sizeof(int32_t);
  return kWinogradPositions * (static_cast<size_t>(winograd_l2_position_bytes(args.k)) + products);
}

}  // namespace conv_int8
}  // namespace pyruntime
