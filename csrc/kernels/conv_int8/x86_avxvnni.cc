// conv_int8 on AVX-VNNI. A tile is M pixels x NP panels of 16 output channels, 2 * M * NP <= 12 accumulators
// of 8 sums:
//
//   for every tap, for every group of 4 input channels:
//     2 NP loads of 32 weight bytes, M broadcasts of 4 activation bytes, 2 M NP VPDPBUSD   (32 MACs each)
//
// Weights are the signed operand of VPDPBUSD, activations the unsigned one; sums are exact. Twelve
// accumulators cover its latency (4 to 5 cycles at two a cycle) and leave registers for two vectors of
// weights and a broadcast. Fewer pixels take more panels, that is more streams of weights at once.
#include <immintrin.h>

#include "kernels/conv_int8/conv_int8.h"
#include "kernels/conv_int8/flatten.h"
#include "kernels/conv_int8/pack.h"
#include "kernels/products_avx2.h"
#include "kernels/requantize_avx2.h"

namespace pyruntime {
namespace {

constexpr int kMaxPixels = 6;
constexpr ptrdiff_t kPrefetchBytes = 1024;  // ahead of each weight stream, tiles of one or two pixels only
// Every weight is read once, and the inputs several times, where there are more weights than fit L2, and
// where inputs are few beside them.
constexpr ptrdiff_t kWeightsInL2 = 512 * 1024, kManyWeights = 128 * 1024, kFewInputs = 256 * 1024;

// Tiles of M pixels that follow one another in a row; the pointers stand at the first pixel.
struct Tiles {
  int count;
  const uint8_t* x;
  ptrdiff_t x_stride;
  const int32_t* tap_offset;
  int taps, groups;  // groups of 4 channels per tap
  const int8_t* w;   // first panel
  ptrdiff_t w_stride;
  int channel, n;  // first output channel; channels of the layer
  uint8_t* y;      // channel 0
  ptrdiff_t y_stride;
  const uint8_t* residual;
  ptrdiff_t residual_stride;
  const Requantize* requantize;
};

// Products of 4 channels; x has a pointer for every three pixels.
template <int M, int NP>
[[gnu::always_inline]] inline void add_products(const Tiles& t, const int8_t* w,
                                                const uint8_t* const (&x)[(M + 2) / 3], ptrdiff_t offset,
                                                __m256i (&acc)[M][2 * NP]) {
  __m256i weights[2 * NP];
#pragma GCC unroll 8
  for (int j = 0; j < 2 * NP; ++j) {
    const int8_t* from = w + j / 2 * t.w_stride + 32 * (j % 2);
    weights[j] = _mm256_load_si256(reinterpret_cast<const __m256i*>(from));
    if (M <= 2 && j % 2 == 0) _mm_prefetch(reinterpret_cast<const char*>(from + kPrefetchBytes), _MM_HINT_T0);
  }
#pragma GCC unroll 6
  for (int m = 0; m < M; ++m) {
    const __m256i value = broadcast4(x[m / 3] + (m % 3) * t.x_stride + offset);
#pragma GCC unroll 8
    for (int j = 0; j < 2 * NP; ++j) acc[m][j] = _mm256_dpbusd_avx_epi32(acc[m][j], value, weights[j]);
  }
}

template <int M, int NP>
void run_tiles(const Tiles& tiles) {
  Tiles t = tiles;
  const Requantize& q = *t.requantize;
  const __m256i* init = reinterpret_cast<const __m256i*>(q.acc_init + t.channel);
  const ptrdiff_t s = t.x_stride;
  for (; t.count > 0; --t.count) {
    __m256i acc[M][2 * NP];
#pragma GCC unroll 6
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
      for (int j = 0; j < 2 * NP; ++j) acc[m][j] = _mm256_loadu_si256(init + j);
    }
    const int8_t* w = t.w;
    for (int tap = 0; tap < t.taps; ++tap) {
      const uint8_t* x[(M + 2) / 3];
#pragma GCC unroll 2
      for (int i = 0; i < (M + 2) / 3; ++i) x[i] = t.x + t.tap_offset[tap] + 3 * i * s;
      int g = 0;
      for (; g + 2 <= t.groups; g += 2, w += 128) {
        add_products<M, NP>(t, w, x, 0, acc);
        add_products<M, NP>(t, w + 64, x, 4, acc);
#pragma GCC unroll 2
        for (int i = 0; i < (M + 2) / 3; ++i) x[i] += 8;
      }
      if (g < t.groups) {
        add_products<M, NP>(t, w, x, 0, acc);
        w += 64;
      }
    }
#pragma GCC unroll 4
    for (int p = 0; p < NP; ++p) {
      __m256i panel[M][2];
#pragma GCC unroll 6
      for (int m = 0; m < M; ++m) {
        panel[m][0] = acc[m][2 * p];
        panel[m][1] = acc[m][2 * p + 1];
      }
      const int channel = t.channel + 16 * p;
      requantize_store_tile_avx2<M>(q, panel, channel, t.n - channel, t.residual, t.residual_stride, t.y,
                                    t.y_stride);
    }
    t.x += M * s;
    t.y += M * t.y_stride;
    if (t.residual != nullptr) t.residual += M * t.residual_stride;
  }
}

constexpr int kMaxPanels = 4;
using TileFunction = void (*)(const Tiles&);

// [pixels - 1][panels - 1]
constexpr TileFunction kTiles[kMaxPixels][kMaxPanels] = {
    {run_tiles<1, 1>, run_tiles<1, 2>, run_tiles<1, 3>, run_tiles<1, 4>},
    {run_tiles<2, 1>, run_tiles<2, 2>, run_tiles<2, 3>, nullptr},
    {run_tiles<3, 1>, run_tiles<3, 2>, nullptr, nullptr},
    {run_tiles<4, 1>, nullptr, nullptr, nullptr},
    {run_tiles<5, 1>, nullptr, nullptr, nullptr},
    {run_tiles<6, 1>, nullptr, nullptr, nullptr}};

// Panels per tile for tiles of `pixels` pixels.
int panels_for(int pixels) { return pixels == 1 ? 4 : pixels == 2 ? 3 : pixels == 3 ? 2 : 1; }

int smaller(int a, int b) { return a < b ? a : b; }

// All pixels for the panels [panel_begin, panel_end); rows are cut into tiles of nearly equal size.
void run_panels(const ConvInt8Args& args, int panel_begin, int panel_end, int tiles) {
  const Requantize& q = args.requantize;
  const int small = args.cols / tiles, larger = args.cols % tiles;  // `larger` tiles have one pixel more
  Tiles t{};
  t.x_stride = args.x_col_stride;
  t.tap_offset = args.tap_offset;
  t.taps = args.taps;
  t.groups = (args.k + 3) / 4;
  t.w_stride = conv_int8::panel16_stride(args.taps, args.k, 4);
  t.n = args.n;
  t.y_stride = args.y_col_stride;
  t.residual_stride = q.residual_col_stride;
  t.requantize = &q;
  constexpr int kMostTiles = 8;  // whose inputs meet the next panels in L1
  for (int row = 0; row < args.rows; ++row) {
    t.x = args.x + row * args.x_row_stride;
    t.y = static_cast<uint8_t*>(args.y) + row * args.y_row_stride;
    t.residual = q.residual == nullptr ? nullptr : q.residual + row * q.residual_row_stride;
    for (int i = 0; i < tiles; i += t.count) {
      const int pixels = small + (i < larger ? 1 : 0), step = panels_for(pixels);
      t.count = smaller(kMostTiles, (i < larger ? larger : tiles) - i);
      for (int p = panel_begin; p < panel_end; p += step) {
        t.w = static_cast<const int8_t*>(args.w) + p * t.w_stride;
        t.channel = 16 * p;
        kTiles[pixels - 1][smaller(step, panel_end - p) - 1](t);
      }
      t.x += t.count * pixels * t.x_stride;
      t.y += t.count * pixels * t.y_stride;
      if (t.residual != nullptr) t.residual += t.count * pixels * t.residual_stride;
    }
  }
}

}  // namespace

void run_conv_int8_u8s8s32_6x16x4__avxvnni(const ConvInt8Args& given) {
  if (given.rows <= 0 || given.cols <= 0) return;
  const ConvInt8Args args = conv_int8::flatten(given);
  const int panel_begin = args.n_begin / 16, panel_end = (args.n_end + 15) / 16;
  const int tiles = (args.cols + kMaxPixels - 1) / kMaxPixels;
  const ptrdiff_t bytes = (panel_end - panel_begin) * conv_int8::panel16_stride(args.taps, args.k, 4);
  const ptrdiff_t inputs = static_cast<ptrdiff_t>(args.rows) * args.cols * args.k;
  const bool by_panels = bytes > kWeightsInL2 || (bytes > kManyWeights && inputs < kFewInputs);
  const int step = by_panels ? panels_for((args.cols + tiles - 1) / tiles) : panel_end - panel_begin;
  for (int p = panel_begin; p < panel_end; p += step)
    run_panels(args, p, smaller(panel_end, p + step), tiles);
}

}  // namespace pyruntime
