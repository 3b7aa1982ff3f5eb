// conv_int8 on AVX2. A tile is M pixels x 16 output channels (two vectors of 8 accumulators per pixel):
//
//   for every tap, for every entry (4 input channels) of the panel:
//     2 loads of 32 weight bytes, M broadcasts of 4 activation bytes,
//     2 M times VPMADDUBSW (u8 x s8 pairs to s16), VPMADDWD with ones (pairs to s32), VPADDD
//
// The packing (panel16_split) has seen to it that no pair sum leaves 16 bits, so the result is exact.
#include <immintrin.h>

#include "kernels/conv_int8/conv_int8.h"
#include "kernels/conv_int8/pack.h"
#include "kernels/requantize_avx2.h"

namespace pyruntime {
namespace {

constexpr int kMaxPixels = 6;

struct Tile {
  const uint8_t* x;
  ptrdiff_t x_stride;
  const int32_t* tap_offset;
  int taps;
  const conv_int8::SplitPanel* panel;
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

template <int M>
void run_tile(const Tile& t) {
  const Requantize& q = *t.requantize;
  __m256i acc[M][2];
  const __m256i* init = reinterpret_cast<const __m256i*>(q.acc_init + t.channel);
#pragma GCC unroll 6
  for (int m = 0; m < M; ++m) {
    acc[m][0] = _mm256_loadu_si256(init);
    acc[m][1] = _mm256_loadu_si256(init + 1);
  }
  const uint8_t* base = reinterpret_cast<const uint8_t*>(t.panel);
  const uint16_t* group = reinterpret_cast<const uint16_t*>(base + t.panel->group_offset);
  const __m256i* w = reinterpret_cast<const __m256i*>(base + t.panel->weight_offset);
  const uint32_t* entry_begin = t.panel->entry_begin;
  const ptrdiff_t s = t.x_stride;
  for (int tap = 0; tap < t.taps; ++tap) {
    const uint8_t* x = t.x + t.tap_offset[tap];
    for (uint32_t e = entry_begin[tap]; e < entry_begin[tap + 1]; ++e, w += 2) {
      const __m256i w0 = _mm256_load_si256(w), w1 = _mm256_load_si256(w + 1);
      const uint8_t* at = x + 4 * static_cast<ptrdiff_t>(group[e]);
#pragma GCC unroll 6
      for (int m = 0; m < M; ++m) {
        const __m256i value = broadcast4(at + m * s);
        acc[m][0] = add_products(acc[m][0], value, w0);
        acc[m][1] = add_products(acc[m][1], value, w1);
      }
    }
  }
#pragma GCC unroll 6
  for (int m = 0; m < M; ++m) {
    const uint8_t* residual = t.residual == nullptr ? nullptr : t.residual + m * t.residual_stride;
    requantize_store16_avx2(q, acc[m][0], acc[m][1], t.channel, t.n - t.channel, residual,
                            t.y + m * t.y_stride);
  }
}

using TileFunction = void (*)(const Tile&);
constexpr TileFunction kTiles[kMaxPixels] = {run_tile<1>, run_tile<2>, run_tile<3>,
                                             run_tile<4>, run_tile<5>, run_tile<6>};

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
      t.panel = reinterpret_cast<const conv_int8::SplitPanel*>(packed + panel_offset[p]);
      t.channel = 16 * p;
      kTiles[pixels - 1](t);
    }
    t.x += pixels * t.x_stride;
    t.y += pixels * t.y_stride;
    if (t.residual != nullptr) t.residual += pixels * t.residual_stride;
  }
}

}  // namespace

void run_conv_int8_u8s8s32_6x16x4__avx2(const ConvInt8Args& args) {
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
