// conv_int8 on AVX2. A tile is M pixels x 16 output channels (two vectors of 8 accumulators per pixel):
//
//   for every tap, for every group of 4 input channels of the panel:
//     narrow: 2 loads of 32 weight bytes, M broadcasts of 4 activation bytes,
//             2 M times VPMADDUBSW (u8 x s8 pairs to s16), VPMADDWD with ones (pairs to s32), VPADDD
//     wide:   4 loads of 16 weights in s16, M broadcasts, of which the even (VPAND) and the odd
//             bytes (VPSRLW) are taken as s16, 4 M times VPMADDWD, VPADDD
//
// VPMADDUBSW saturates a sum of two products at 16 bits. The packing (panel16_mixed) makes a group wide if
// one of its sums could leave them, so the result is exact. Both forms take 2 multiplications per 32 MACs.
// More than 5 pixels would not leave the wide form enough of the 16 registers.
#include <immintrin.h>

#include "kernels/conv_int8/conv_int8.h"
#include "kernels/conv_int8/pack.h"
#include "kernels/requantize_avx2.h"

namespace pyruntime {
namespace {

constexpr int kMaxPixels = 5;

struct Tile {
  const uint8_t* x;
  ptrdiff_t x_stride;
  const int32_t* tap_offset;
  int taps;
  const conv_int8::MixedPanel* panel;
  int channel, n;
  uint8_t* y;  // channel 0
  ptrdiff_t y_stride;
  const uint8_t* residual;
  ptrdiff_t residual_stride;
  const Requantize* requantize;
};

[[gnu::always_inline]] inline __m256i broadcast4(const uint8_t* x) {
  int32_t value;
  __builtin_memcpy(&value, x, 4);
  return _mm256_set1_epi32(value);
}

[[gnu::always_inline]] inline __m256i add_products(__m256i acc, __m256i x, __m256i w) {
  const __m256i ones = _mm256_set1_epi16(1);
  return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), ones));
}

// x points at 4 channels of the first pixel.
template <int M>
[[gnu::always_inline]] inline void add_narrow(__m256i (&acc)[M][2], const uint8_t* x, ptrdiff_t stride,
                                              const __m256i* w) {
  const __m256i w0 = _mm256_load_si256(w), w1 = _mm256_load_si256(w + 1);
#pragma GCC unroll 5
  for (int m = 0; m < M; ++m) {
    const __m256i value = broadcast4(x + m * stride);
    acc[m][0] = add_products(acc[m][0], value, w0);
    acc[m][1] = add_products(acc[m][1], value, w1);
  }
}

template <int M>
[[gnu::always_inline]] inline void add_wide(__m256i (&acc)[M][2], const uint8_t* x, ptrdiff_t stride,
                                            const __m256i* w) {
  const __m256i even0 = _mm256_load_si256(w), even1 = _mm256_load_si256(w + 1);
  const __m256i odd0 = _mm256_load_si256(w + 2), odd1 = _mm256_load_si256(w + 3);
#pragma GCC unroll 5
  for (int m = 0; m < M; ++m) {
    const __m256i value = broadcast4(x + m * stride);
    const __m256i even = _mm256_and_si256(value, _mm256_set1_epi16(0xff)), odd = _mm256_srli_epi16(value, 8);
    acc[m][0] = _mm256_add_epi32(acc[m][0], _mm256_madd_epi16(even, even0));
    acc[m][1] = _mm256_add_epi32(acc[m][1], _mm256_madd_epi16(even, even1));
    acc[m][0] = _mm256_add_epi32(acc[m][0], _mm256_madd_epi16(odd, odd0));
    acc[m][1] = _mm256_add_epi32(acc[m][1], _mm256_madd_epi16(odd, odd1));
  }
}

template <int M>
void run_tile(const Tile& t) {
  const Requantize& q = *t.requantize;
  __m256i acc[M][2];
  const __m256i* init = reinterpret_cast<const __m256i*>(q.acc_init + t.channel);
#pragma GCC unroll 5
  for (int m = 0; m < M; ++m) {
    acc[m][0] = _mm256_loadu_si256(init);
    acc[m][1] = _mm256_loadu_si256(init + 1);
  }
  const uint8_t* base = reinterpret_cast<const uint8_t*>(t.panel);
  const uint16_t* group = reinterpret_cast<const uint16_t*>(base + t.panel->group_offset);
  const __m256i* w = reinterpret_cast<const __m256i*>(base + t.panel->weight_offset);
  const uint32_t* begin = t.panel->begin;
  for (int tap = 0; tap < t.taps; ++tap, begin += 2) {
    const uint8_t* x = t.x + t.tap_offset[tap];
    for (uint32_t g = begin[0]; g < begin[1]; ++g, w += 2)
      add_narrow<M>(acc, x + 4 * static_cast<ptrdiff_t>(group[g]), t.x_stride, w);
    for (uint32_t g = begin[1]; g < begin[2]; ++g, w += 4)
      add_wide<M>(acc, x + 4 * static_cast<ptrdiff_t>(group[g]), t.x_stride, w);
  }
  requantize_store_tile_avx2<M>(q, acc, t.channel, t.n - t.channel, t.residual, t.residual_stride, t.y,
                                t.y_stride);
}

using TileFunction = void (*)(const Tile&);
constexpr TileFunction kTiles[kMaxPixels] = {run_tile<1>, run_tile<2>, run_tile<3>, run_tile<4>, run_tile<5>};

// One row of pixels, cut into tiles of nearly equal size, for the panels [panel_begin, panel_end).
void run_row(const ConvInt8Args& args, Tile t, int panel_begin, int panel_end) {
  const int tiles = (args.cols + kMaxPixels - 1) / kMaxPixels;
  const int small = args.cols / tiles,
            larger = args.cols % tiles;  // the first `larger` tiles have one pixel more
  const uint8_t* packed = static_cast<const uint8_t*>(args.w);
  const uint32_t* panel_offset = static_cast<const uint32_t*>(args.w);
  for (int i = 0; i < tiles; ++i) {
    const int pixels = small + (i < larger ? 1 : 0);
    for (int p = panel_begin; p < panel_end; ++p) {
      t.panel = reinterpret_cast<const conv_int8::MixedPanel*>(packed + panel_offset[p]);
      t.channel = 16 * p;
      kTiles[pixels - 1](t);
    }
    t.x += pixels * t.x_stride;
    t.y += pixels * t.y_stride;
    if (t.residual != nullptr) t.residual += pixels * t.residual_stride;
  }
}

}  // namespace

void run_conv_int8_u8s8s32_5x16x4__avx2(const ConvInt8Args& args) {
  if (args.rows <= 0 || args.cols <= 0) return;
  const Requantize& q = args.requantize;
  Tile t{};
  t.x_stride = args.x_col_stride;
  t.tap_offset = args.tap_offset;
  t.taps = args.taps;
  t.n = args.n;
  t.y_stride = args.y_col_stride;
  t.residual_stride = q.residual_col_stride;
  t.requantize = &q;
  for (int row = 0; row < args.rows; ++row) {
    t.x = args.x + row * args.x_row_stride;
    t.y = static_cast<uint8_t*>(args.y) + row * args.y_row_stride;
    t.residual = q.residual == nullptr ? nullptr : q.residual + row * q.residual_row_stride;
    run_row(args, t, args.n_begin / 16, (args.n_end + 15) / 16);
  }
}

}  // namespace pyruntime
