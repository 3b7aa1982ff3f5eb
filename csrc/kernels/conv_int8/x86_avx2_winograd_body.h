// conv_int8 of 3x3 windows by F(4x4, 3x3) in vectors of 8 sums, on AVX2 and AVX-VNNI (winograd.h). For a
// block of tiles:
//
//   inputs:   16 channels of a tile at a time, 36 loads, 12 transforms of 17 instructions, 36 stores
//   products: for 16 output channels and each position, up to 6 tiles in registers; for two input channels 2
//             loads of s16 weights, then a broadcast of two s16 inputs and two products of words for each
//             tile: 2 x 6 x 16 products in 12 multiplications, where VPMADDUBSW would have to take 18 to 24
//             (VPDPBUSD 24) for the 4 times as many of a direct convolution
//   outputs:  8 channels of a tile at a time, 36 loads, 10 transforms of 13 instructions, then 16 times a
//             product, a shift and the epilogue
#pragma once

#include <immintrin.h>

#include "kernels/conv_int8/conv_int8.h"
#include "kernels/conv_int8/winograd.h"
#include "kernels/products_avx2.h"
#include "kernels/requantize_avx2.h"

namespace pyruntime {
namespace {

using conv_int8::kWinogradInputs;
using conv_int8::kWinogradPositions;
using conv_int8::kWinogradTile;

constexpr int kRegisterTiles = 6;

// Everything a block of tiles needs; strides in bytes.
struct Block {
  const ConvInt8Args* args;
  int tile_cols;             // of the whole grid
  int first, tiles;          // tile t of the block is tile first + t of the grid
  ptrdiff_t tile, position;  // strides of the transformed inputs
  uint8_t* inputs;
  int32_t* products;  // [36][tiles][16]
};

// Times B.
[[gnu::always_inline]] inline void transform_inputs(const __m256i* d, ptrdiff_t from, __m256i* r,
                                                    ptrdiff_t to) {
  const __m256i d0 = d[0], d1 = d[from], d2 = d[2 * from], d3 = d[3 * from], d4 = d[4 * from],
                d5 = d[5 * from];
  const __m256i odd = _mm256_sub_epi16(_mm256_slli_epi16(d1, 2), d3);
  const __m256i even = _mm256_sub_epi16(_mm256_slli_epi16(d2, 2), d4);
  const __m256i near = _mm256_sub_epi16(d4, d2);
  const __m256i difference = _mm256_sub_epi16(d3, d1), far = _mm256_add_epi16(difference, difference);
  r[0] = _mm256_add_epi16(_mm256_slli_epi16(_mm256_sub_epi16(d0, d2), 2), near);
  r[to] = _mm256_add_epi16(even, odd);
  r[2 * to] = _mm256_sub_epi16(even, odd);
  r[3 * to] = _mm256_add_epi16(near, far);
  r[4 * to] = _mm256_sub_epi16(near, far);
  r[5 * to] = _mm256_sub_epi16(_mm256_sub_epi16(d5, d3), _mm256_add_epi16(far, far));
}

// All channels of tile `t` of the block. Inputs beyond the grid's window are taken from its edge: they only
// reach outputs that are not stored.
void tile_inputs(const Block& b, int t) {
  const ConvInt8Args& args = *b.args;
  const int row = (b.first + t) / b.tile_cols * kWinogradTile,
            col = (b.first + t) % b.tile_cols * kWinogradTile;
  const uint8_t* x[kWinogradInputs];
  ptrdiff_t at[kWinogradInputs];
  for (int i = 0; i < kWinogradInputs; ++i) {
    const int r = row + i < args.rows + 2 ? row + i : args.rows + 1;
    const int c = col + i < args.cols + 2 ? col + i : args.cols + 1;
    x[i] = args.x + args.tap_offset[0] + r * args.x_row_stride;
    at[i] = c * args.x_col_stride;
  }
  uint8_t* out = b.inputs + t * b.tile;
  const ptrdiff_t channels = conv_int8::winograd_channels(args.k);
  for (ptrdiff_t channel = 0; channel < channels; channel += 16, out += 32) {
    __m256i half[kWinogradInputs][kWinogradInputs], values[kWinogradInputs];
#pragma GCC unroll 6
    for (int j = 0; j < kWinogradInputs; ++j) {
#pragma GCC unroll 6
      for (int i = 0; i < kWinogradInputs; ++i)
        values[i] =
            _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x[i] + at[j] + channel)));
      transform_inputs(values, 1, &half[0][j], kWinogradInputs);
    }
#pragma GCC unroll 6
    for (int i = 0; i < kWinogradInputs; ++i) {
      transform_inputs(half[i], 1, values, 1);
#pragma GCC unroll 6
      for (int j = 0; j < kWinogradInputs; ++j)
        _mm256_store_si256(reinterpret_cast<__m256i*>(out + (6 * i + j) * b.position), values[j]);
    }
  }
}

// One position of M tiles x 16 output channels, all input channels. Not inlined: beside other code GCC 12
// pushes accumulators out of the loop (0.67 instead of 0.40 ns for a pair and tile at 3.1 GHz).
template <int M>
[[gnu::noinline]] void products(const uint8_t* x, ptrdiff_t tile, const __m256i* w, ptrdiff_t pairs,
                                int32_t* out) {
  __m256i acc[M][2];
  const uint8_t* tiles[M];
#pragma GCC unroll 6
  for (int m = 0; m < M; ++m) {
    acc[m][0] = acc[m][1] = _mm256_setzero_si256();
    tiles[m] = x + m * tile;
    asm("" : "+r"(tiles[m]));  // each in a register: one load and no address arithmetic a tile
  }
  for (ptrdiff_t pair = 0; pair < pairs; ++pair, w += 2) {
    __m256i w0 = _mm256_load_si256(w), w1 = _mm256_load_si256(w + 1);
    _mm_prefetch(reinterpret_cast<const char*>(w) + 4096, _MM_HINT_T1);
#pragma GCC unroll 6
    for (int m = 0; m < M; ++m) {
      asm("" : "+x"(w0), "+x"(w1));  // one tile after the other
      const __m256i value = broadcast4(tiles[m] + 4 * pair);
      acc[m][0] = add_word_products(acc[m][0], value, w0);
      acc[m][1] = add_word_products(acc[m][1], value, w1);
    }
  }
#pragma GCC unroll 6
  for (int m = 0; m < M; ++m) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + 16 * m), acc[m][0]);
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + 16 * m + 8), acc[m][1]);
  }
}

using Products = void (*)(const uint8_t*, ptrdiff_t, const __m256i*, ptrdiff_t, int32_t*);
constexpr Products kProducts[kRegisterTiles] = {products<1>, products<2>, products<3>,
                                                products<4>, products<5>, products<6>};

// Times A without its divisors.
[[gnu::always_inline]] inline void transform_outputs(const __m256i* m, ptrdiff_t from, __m256i* r,
                                                     ptrdiff_t to) {
  const __m256i m1 = m[from], m2 = m[2 * from], m3 = m[3 * from], m4 = m[4 * from];
  const __m256i sum = _mm256_add_epi32(m1, m2), far_sum = _mm256_add_epi32(m3, m4);
  const __m256i difference = _mm256_sub_epi32(m1, m2), far = _mm256_sub_epi32(m3, m4);
  r[0] = _mm256_add_epi32(_mm256_add_epi32(m[0], far_sum), _mm256_slli_epi32(sum, 2));
  r[to] = _mm256_add_epi32(_mm256_add_epi32(difference, difference), far);
  r[2 * to] = _mm256_add_epi32(sum, far_sum);
  r[3 * to] = _mm256_add_epi32(_mm256_add_epi32(difference, m[5 * from]), _mm256_add_epi32(far, far));
}

constexpr int kShift[kWinogradTile] = {3, 2, 1, 1};  // of the divisors 24, 12, 6, 6
constexpr int32_t kInverseOf9 = 0x38E38E39;          // modulo 2^32

// The accumulators of 8 output channels of a tile, its products `position` numbers apart. Pixels are two
// vectors apart in `acc`.
[[gnu::always_inline]] inline void tile_sums(const int32_t* products, ptrdiff_t position, __m256i init,
                                             __m256i* acc) {
  __m256i half[kWinogradTile][kWinogradInputs], values[kWinogradInputs];
#pragma GCC unroll 6
  for (int j = 0; j < kWinogradInputs; ++j) {
#pragma GCC unroll 6
    for (int i = 0; i < kWinogradInputs; ++i)
      values[i] = _mm256_load_si256(reinterpret_cast<const __m256i*>(products + (6 * i + j) * position));
    transform_outputs(values, 1, &half[0][j], kWinogradInputs);
  }
#pragma GCC unroll 4
  for (int i = 0; i < kWinogradTile; ++i) {
    transform_outputs(half[i], 1, values, 1);
#pragma GCC unroll 4
    for (int j = 0; j < kWinogradTile; ++j) {
      const __m256i whole = _mm256_mullo_epi32(values[j], _mm256_set1_epi32(kInverseOf9));
      acc[2 * (kWinogradTile * i + j)] =
          _mm256_add_epi32(_mm256_srai_epi32(whole, kShift[i] + kShift[j]), init);
    }
  }
}

template <int M>
void store_row(const Requantize& q, const __m256i* row, int channel, int channels, const uint8_t* residual,
               uint8_t* y, ptrdiff_t y_stride) {
  __m256i acc[M][2];
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) {
    acc[m][0] = row[2 * m];
    acc[m][1] = row[2 * m + 1];
  }
  requantize_store_tile_avx2<M>(q, acc, channel, channels, residual, q.residual_col_stride, y, y_stride);
}

using StoreRow = void (*)(const Requantize&, const __m256i*, int, int, const uint8_t*, uint8_t*, ptrdiff_t);
constexpr StoreRow kStoreRow[kWinogradTile] = {store_row<1>, store_row<2>, store_row<3>, store_row<4>};

int smaller(int a, int b) { return a < b ? a : b; }

// 16 output channels of tile `t` of the block.
void tile_outputs(const Block& b, int t, int channel) {
  const ConvInt8Args& args = *b.args;
  const Requantize& q = args.requantize;
  __m256i acc[2 * kWinogradTile * kWinogradTile];
  const __m256i* init = reinterpret_cast<const __m256i*>(q.acc_init + channel);
  const int32_t* from = b.products + 16 * t;
  tile_sums(from, 16 * b.tiles, _mm256_loadu_si256(init), acc);
  tile_sums(from + 8, 16 * b.tiles, _mm256_loadu_si256(init + 1), acc + 1);
  const int row = (b.first + t) / b.tile_cols * kWinogradTile,
            col = (b.first + t) % b.tile_cols * kWinogradTile;
  const int rows = smaller(kWinogradTile, args.rows - row), cols = smaller(kWinogradTile, args.cols - col);
  uint8_t* y = static_cast<uint8_t*>(args.y) + row * args.y_row_stride + col * args.y_col_stride;
  const uint8_t* residual = q.residual;
  if (residual != nullptr) residual += row * q.residual_row_stride + col * q.residual_col_stride;
  for (int i = 0; i < rows; ++i) {
    kStoreRow[cols - 1](q, acc + 2 * kWinogradTile * i, channel, args.n - channel, residual, y,
                        args.y_col_stride);
    y += args.y_row_stride;
    if (residual != nullptr) residual += q.residual_row_stride;
  }
}

// Output channels channel .. channel + 15; `w` are their weights.
void block_products(const Block& b, const uint8_t* w) {
  const ptrdiff_t pairs = conv_int8::winograd_channels(b.args->k) / 2, weights = pairs * 64;
  const int groups = (b.tiles + kRegisterTiles - 1) / kRegisterTiles;
  for (int p = 0; p < kWinogradPositions; ++p) {
    const __m256i* position = reinterpret_cast<const __m256i*>(w + p * weights);
    for (int g = 0; g < groups; ++g) {
      const int begin = b.tiles * g / groups, count = b.tiles * (g + 1) / groups - begin;
      kProducts[count - 1](b.inputs + p * b.position + begin * b.tile, b.tile, position, pairs,
                           b.products + (p * b.tiles + begin) * 16);
    }
  }
}

void run_winograd(const ConvInt8Args& args) {
  if (args.rows <= 0 || args.cols <= 0) return;
  Block b{};
  b.args = &args;
  b.tile_cols = (args.cols + kWinogradTile - 1) / kWinogradTile;
  b.tile = conv_int8::winograd_channels(args.k) * 2;
  b.position = conv_int8::winograd_position_bytes(args.k);
  b.inputs = static_cast<uint8_t*>(args.scratch);
  b.products = reinterpret_cast<int32_t*>(b.inputs + kWinogradPositions * b.position);
  const int64_t tiles = static_cast<int64_t>((args.rows + kWinogradTile - 1) / kWinogradTile) * b.tile_cols;
  const int64_t most = conv_int8::winograd_tiles(args.k), blocks = (tiles + most - 1) / most;
  const ptrdiff_t panel = kWinogradPositions * b.tile * 16;
  for (int64_t i = 0; i < blocks; ++i) {
    b.first = static_cast<int>(tiles * i / blocks);
    b.tiles = static_cast<int>(tiles * (i + 1) / blocks) - b.first;
    for (int t = 0; t < b.tiles; ++t) tile_inputs(b, t);
    for (int channel = args.n_begin; channel < args.n_end; channel += 16) {
      block_products(b, static_cast<const uint8_t*>(args.w) + channel / 16 * panel);
      for (int t = 0; t < b.tiles; ++t) tile_outputs(b, t, channel);
    }
  }
}

}  // namespace
}  // namespace pyruntime
