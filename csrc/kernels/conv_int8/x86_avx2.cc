// conv_int8 on AVX2. A tile is M pixels x 16 output channels (two vectors of 8 accumulators per pixel). For
// every group of 4 input channels, of all taps, in the order of the panel:
//
//   paired: two groups at once; 2 M broadcasts of 4 activation bytes, 4 M times VPMADDUBSW (u8 x s8 pairs to
//           s16), 2 M times VPADDW, VPMADDWD with ones (pairs to s32), VPADDD
//   narrow: 2 loads of 32 weight bytes, M broadcasts, 2 M times VPMADDUBSW, VPMADDWD with ones, VPADDD
//   wide:   M broadcasts, of which the even (VPAND) and the odd bytes (VPSRLW) are taken as s16, 4 M times
//           VPMADDWD with s16 weights, VPADDD
//
// VPMADDUBSW saturates a sum of two products at 16 bits. The packing (panel16_mixed) makes a group wide if
// one of its sums could leave them, so the result is exact. Zen 3 takes 0.85 cycles per 32 MACs in the paired
// form, 1.22 in the narrow, 1.48 in the wide one; both multipliers are then busy for 0.75, 1 and 1 cycles.
// More than 5 pixels would not leave the wide form enough of the 16 registers.
#include <immintrin.h>

#include "kernels/conv_int8/conv_int8.h"
#include "kernels/conv_int8/pack.h"
#include "kernels/products_avx2.h"
#include "kernels/requantize_avx2.h"

namespace pyruntime {
namespace {

constexpr int kMaxPixels = 5;

struct Tile {
  const uint8_t* x;
  ptrdiff_t x_stride;
  const int32_t* group_offset;  // bytes from the pixel to the 4 channels of each group
  const conv_int8::MixedPanel* panel;
  int channel, n;
  uint8_t* y;  // channel 0
  ptrdiff_t y_stride;
  const uint8_t* residual;
  ptrdiff_t residual_stride;
  const Requantize* requantize;
};

// The pixels of a tile, each in a register of its own: with one offset for all, a group costs one load per
// pixel and no address arithmetic.
template <int M>
struct Pixels {
  const uint8_t* x[M];
};

template <int M>
[[gnu::always_inline]] inline void add_narrow(__m256i (&acc)[M][2], const Pixels<M>& pixels, ptrdiff_t at,
                                              const __m256i* w) {
  const __m256i ones = _mm256_set1_epi16(1), w0 = _mm256_load_si256(w), w1 = _mm256_load_si256(w + 1);
#pragma GCC unroll 5
  for (int m = 0; m < M; ++m) {
    const __m256i value = broadcast4(pixels.x[m] + at);
    acc[m][0] = _mm256_add_epi32(acc[m][0], _mm256_madd_epi16(_mm256_maddubs_epi16(value, w0), ones));
    acc[m][1] = _mm256_add_epi32(acc[m][1], _mm256_madd_epi16(_mm256_maddubs_epi16(value, w1), ones));
  }
}

// Two groups whose sums are added in 16 bits. One vector of weights and the temporaries fill the 16
// registers; the other weights stay memory operands, or they would push accumulators out.
template <int M>
[[gnu::always_inline]] inline void add_paired(__m256i (&acc)[M][2], const Pixels<M>& pixels, ptrdiff_t at,
                                              ptrdiff_t at2, const __m256i* w) {
  const __m256i ones = _mm256_set1_epi16(1), w0 = _mm256_load_si256(w);
#pragma GCC unroll 5
  for (int m = 0; m < M; ++m) {
    asm("" : "+r"(w));
    const __m256i first = broadcast4(pixels.x[m] + at), second = broadcast4(pixels.x[m] + at2);
    const __m256i sums0 = _mm256_add_epi16(_mm256_maddubs_epi16(first, w0),
                                           _mm256_maddubs_epi16(second, _mm256_load_si256(w + 2)));
    acc[m][0] = _mm256_add_epi32(acc[m][0], _mm256_madd_epi16(sums0, ones));
    const __m256i sums1 = _mm256_add_epi16(_mm256_maddubs_epi16(first, _mm256_load_si256(w + 1)),
                                           _mm256_maddubs_epi16(second, _mm256_load_si256(w + 3)));
    acc[m][1] = _mm256_add_epi32(acc[m][1], _mm256_madd_epi16(sums1, ones));
  }
}

template <int M>
[[gnu::always_inline]] inline void add_wide(__m256i (&acc)[M][2], const Pixels<M>& pixels, ptrdiff_t at,
                                            const __m256i* w) {
#pragma GCC unroll 5
  for (int m = 0; m < M; ++m) {
    asm("" : "+r"(w));
    const __m256i value = broadcast4(pixels.x[m] + at);
    const __m256i even = _mm256_and_si256(value, _mm256_set1_epi16(0xff)), odd = _mm256_srli_epi16(value, 8);
    acc[m][0] = _mm256_add_epi32(acc[m][0], _mm256_madd_epi16(even, _mm256_load_si256(w)));
    acc[m][1] = _mm256_add_epi32(acc[m][1], _mm256_madd_epi16(even, _mm256_load_si256(w + 1)));
    acc[m][0] = _mm256_add_epi32(acc[m][0], _mm256_madd_epi16(odd, _mm256_load_si256(w + 2)));
    acc[m][1] = _mm256_add_epi32(acc[m][1], _mm256_madd_epi16(odd, _mm256_load_si256(w + 3)));
  }
}

template <int M>
void run_tile(const Tile& t) {
  const Requantize& q = *t.requantize;
  __m256i acc[M][2];
  Pixels<M> pixels;
  const __m256i* init = reinterpret_cast<const __m256i*>(q.acc_init + t.channel);
#pragma GCC unroll 5
  for (int m = 0; m < M; ++m) {
    acc[m][0] = _mm256_loadu_si256(init);
    acc[m][1] = _mm256_loadu_si256(init + 1);
    pixels.x[m] = t.x + m * t.x_stride;
    asm("" : "+r"(pixels.x[m]));  // or it would be computed again from x for each group
  }
  const uint8_t* base = reinterpret_cast<const uint8_t*>(t.panel);
  const __m256i* w = reinterpret_cast<const __m256i*>(base + t.panel->weight_offset);
  const uint32_t* group = reinterpret_cast<const uint32_t*>(base + t.panel->group_offset);
  const uint32_t *paired_end = group + t.panel->paired_end, *narrow_end = group + t.panel->narrow_end,
                 *wide_end = group + t.panel->wide_end;
  const int32_t* offset = t.group_offset;
  for (; group < paired_end; group += 2, w += 4)
    add_paired<M>(acc, pixels, offset[group[0]], offset[group[1]], w);
  for (; group < narrow_end; ++group, w += 2) add_narrow<M>(acc, pixels, offset[*group], w);
  for (; group < wide_end; ++group, w += 4) add_wide<M>(acc, pixels, offset[*group], w);
  requantize_store_tile_avx2<M>(q, acc, t.channel, t.n - t.channel, t.residual, t.residual_stride, t.y,
                                t.y_stride);
}

using TileFunction = void (*)(const Tile&);
constexpr TileFunction kTiles[kMaxPixels] = {run_tile<1>, run_tile<2>, run_tile<3>, run_tile<4>, run_tile<5>};

// What is computed between two reads of the same weights from L2 or beyond.
struct Block {
  int row_begin, row_end, col_begin, col_end, panel_begin, panel_end;
};

// Each row of pixels is cut into tiles of nearly equal size.
void run_block(const ConvInt8Args& args, Tile t, const Block& block) {
  const Requantize& q = args.requantize;
  const uint8_t* packed = static_cast<const uint8_t*>(args.w);
  const uint32_t* panel_offset = static_cast<const uint32_t*>(args.w);
  const int cols = block.col_end - block.col_begin, tiles = (cols + kMaxPixels - 1) / kMaxPixels;
  const int small = cols / tiles, larger = cols % tiles;  // the first `larger` tiles have one pixel more
  for (int row = block.row_begin; row < block.row_end; ++row) {
    t.x = args.x + row * args.x_row_stride + block.col_begin * args.x_col_stride;
    t.y = static_cast<uint8_t*>(args.y) + row * args.y_row_stride + block.col_begin * args.y_col_stride;
    if (q.residual != nullptr)
      t.residual = q.residual + row * q.residual_row_stride + block.col_begin * q.residual_col_stride;
    for (int i = 0; i < tiles; ++i) {
      const int pixels = small + (i < larger ? 1 : 0);
      for (int p = block.panel_begin; p < block.panel_end; ++p) {
        t.panel = reinterpret_cast<const conv_int8::MixedPanel*>(packed + panel_offset[p]);
        t.channel = 16 * p;
        kTiles[pixels - 1](t);
      }
      t.x += pixels * t.x_stride;
      t.y += pixels * t.y_stride;
      if (t.residual != nullptr) t.residual += pixels * t.residual_stride;
    }
  }
}

// Layers of several taps: panels that stay in L1 while the pixels go by, and pixels that stay in L2 while the
// panels do (3x3, 7x7 pixels of 512 channels: 0.9 of the time of all panels for each tile). With one tap the
// long streams of all panels are better prefetched (128 x 3072 by 768: 0.95 of the time of blocks).
constexpr ptrdiff_t kPanelBytes = 24 << 10, kPixelBytes = 128 << 10;

// Of every group of 4 channels, in the order (tap, group): bytes from a pixel.
const int32_t* group_offsets(const ConvInt8Args& args) {
  int32_t* offsets = static_cast<int32_t*>(args.scratch);
  const int groups = (args.k + 3) / 4;
  for (int t = 0; t < args.taps; ++t)
    for (int g = 0; g < groups; ++g) offsets[t * groups + g] = args.tap_offset[t] + 4 * g;
  return offsets;
}

int smaller(int a, int b) { return a < b ? a : b; }

int panels_of_block(const ConvInt8Args& args) {
  if (args.taps == 1) return args.n;
  return static_cast<int>(kPanelBytes / (static_cast<ptrdiff_t>(args.taps) * args.k * 16 + 1) + 1);
}

int pixels_of_block(const ConvInt8Args& args) {
  const ptrdiff_t bytes = args.x_col_stride + args.n_end - args.n_begin;
  return bytes * kMaxPixels > kPixelBytes ? kMaxPixels : static_cast<int>(kPixelBytes / bytes);
}

}  // namespace

void run_conv_int8_u8s8s32_5x16x4__avx2(const ConvInt8Args& args) {
  if (args.rows <= 0 || args.cols <= 0) return;
  const Requantize& q = args.requantize;
  Tile t{};
  t.x_stride = args.x_col_stride;
  t.group_offset = group_offsets(args);
  t.n = args.n;
  t.y_stride = args.y_col_stride;
  t.residual_stride = q.residual_col_stride;
  t.requantize = &q;
  const int pixels = pixels_of_block(args), panels = panels_of_block(args);
  const int rows = pixels < args.cols ? 1 : pixels / args.cols;
  const int blocks = (args.cols + pixels - 1) / pixels;  // of a row, of nearly equal size
  const int panel_end = (args.n_end + 15) / 16;
  for (int row = 0; row < args.rows; row += rows)
    for (int i = 0; i < blocks; ++i)
      for (int p = args.n_begin / 16; p < panel_end; p += panels)
        run_block(args, t,
                  {row, smaller(args.rows, row + rows), args.cols * i / blocks, args.cols * (i + 1) / blocks,
                   p, smaller(panel_end, p + panels)});
}

}  // namespace pyruntime
