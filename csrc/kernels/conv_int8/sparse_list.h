// Sparse weights for many pixels: per output channel a list of its nonzero 1x4 blocks in input order.
//
// Packed form, block4_list: uint32 first[n + 1], then, 64-byte aligned, int32 weights[first[n]] (four s8) and
// uint16 block[first[n]] with block = tap * ceil(k / 4) + channel / 4. sparse_twins.h is the form for
// 16 pixels and VPDPBUSD, sparse_pairs.h that for VPMADDUBSW.
//
// block4_strips: block4_list for rows that take strips of pixels in vectors of 8, the blocks of a channel in
// an order drawn at random. In input order, hardware prefetchers take the inputs for a stream and fetch what
// nobody wants: where inputs leave L1, layers of 40 % density took 1.2 to 1.3 times as long (Zen 5).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/conv_int8/conv_int8.h"

namespace pyruntime {
namespace conv_int8 {

struct SparseList {
  const uint32_t* first;
  const int32_t* weights;
  const uint16_t* block;
};

// View of what pack_block4_list wrote.
static inline SparseList sparse_list(const void* packed, int n) {
  const auto* first = static_cast<const uint32_t*>(packed);
  const uintptr_t base = reinterpret_cast<uintptr_t>(packed);
  const uintptr_t weights = (base + (static_cast<size_t>(n) + 1) * 4 + 63) / 64 * 64;
  return {first, reinterpret_cast<const int32_t*>(weights),
          reinterpret_cast<const uint16_t*>(weights + static_cast<size_t>(first[n]) * 4)};
}

size_t packed_bytes_block4_list(const ConvInt8Weights& weights);
void pack_block4_list(const ConvInt8Weights& weights, void* packed);

size_t scratch_bytes_block4_list(const ConvInt8Args& args);

constexpr int kStripLanes = 8;     // pixels of a vector
constexpr int kStripVectors = 12;  // most vectors of pixels that block4_strips takes together

// Vectors of pixels processed together: more spread the reading of the list, but their inputs, 32 bytes for
// each block and vector, are to stay in `input_bytes` of the second-level cache.
static inline int strip_vectors(const ConvInt8Args& args, int most, int input_bytes) {
  const int fit = input_bytes / (args.taps * ((args.k + 3) / 4) * kStripLanes * 4);
  return fit < 1 ? 1 : fit < most ? fit : most;
}

// Inputs [blocks][vectors][lanes] dwords, then sums [8 channels][vectors][lanes].
static inline size_t strip_bytes(const ConvInt8Args& args, int vectors) {
  const size_t blocks = static_cast<size_t>(args.taps) * static_cast<size_t>((args.k + 3) / 4);
  return (blocks + 8) * static_cast<size_t>(vectors) * kStripLanes * 4;
}

inline size_t packed_bytes_block4_strips(const ConvInt8Weights& weights) {
  return packed_bytes_block4_list(weights);
}
void pack_block4_strips(const ConvInt8Weights& weights, void* packed);

// CPUs with AVX-VNNI have at least 1 MB of L2.
static inline int list_vectors(const ConvInt8Args& args) {
  return strip_vectors(args, kStripVectors, 280 * 1024);
}

inline size_t scratch_bytes_block4_strips(const ConvInt8Args& args) {
  return strip_bytes(args, list_vectors(args));
}

}  // namespace conv_int8
}  // namespace pyruntime
