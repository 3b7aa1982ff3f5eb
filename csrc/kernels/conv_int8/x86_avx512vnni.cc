// conv_int8 on AVX-512-VNNI. A tile is M pixels x NV panels of 16 output channels, M * NV <= 28 accumulators:
//
//   for every tap, for every group of 4 input channels:
//     NV loads of 64 weight bytes, M broadcasts of 4 activation bytes, M * NV VPDPBUSD     (64 MACs each)
//
// Weights are the signed operand of VPDPBUSD, activations the unsigned one. Tiles are cut so that no product
// is wasted: pixels of a row (or of the whole map, if rows follow one another in memory) go into tiles of
// nearly equal M, panels into groups of NV and one narrower group. Few pixels (matrix-vector) take up to 8
// panels, that is 8 streams of weights.
#include <immintrin.h>

#include "kernels/conv_int8/conv_int8.h"
#include "kernels/conv_int8/epilogue_avx512.h"
#include "kernels/conv_int8/flatten.h"
#include "kernels/conv_int8/pack.h"
#include "kernels/conv_int8/panel8.h"
#include "kernels/requantize_avx512.h"

namespace pyruntime {
namespace {

constexpr int kMaxPixels = 14;
constexpr int kMaxPixelsResidual = 10;  // leaves registers for the constants of the longer epilogue
constexpr int kMaxPanels = 8;
constexpr int kMostTiles = 8;               // side by side
constexpr ptrdiff_t kPrefetchBytes = 1024;  // ahead of each weight stream, matrix-vector tiles only
// Every weight is read once, and the inputs several times, where there are more weights than fit L2, and
// where inputs are few beside them.
constexpr ptrdiff_t kWeightsInL2 = 512 * 1024, kManyWeights = 128 * 1024, kFewInputs = 256 * 1024;

// Everything a tile needs, and those that follow it; the pointers stand at its first pixel.
struct Tile {
  int count;                                // of tiles: what surrounds them is set up once
  ptrdiff_t x_step, y_step, residual_step;  // from one to the next
  const uint8_t* x;
  ptrdiff_t x_stride;
  const int32_t* tap_offset;
  int taps, groups;  // groups of 4 channels per tap
  const int8_t* w;   // first panel
  ptrdiff_t w_stride;
  const int8_t* next;  // fetched into L2 by tiles of kTilesAhead, a cache line for every turn of the loop
  ptrdiff_t ahead;     // from one tile to the next, bytes of these
  int channel, n;      // first output channel; channels of the layer
  uint8_t* y;          // channel 0
  ptrdiff_t y_stride;
  const uint8_t* residual;
  ptrdiff_t residual_stride;
  const Requantize* requantize;
  bool general;      // the fast epilogue would not do
  bool whole_range;  // results are bounded by 0 and 255
};

// Float outputs, from the accumulators of panel after panel: what its channels share is read once.
[[gnu::noinline]] void store_f32(const Tile& t, const __m512i* acc, int pixels, int panels) {
  const Requantize& q = *t.requantize;
  const __m512 lo = _mm512_set1_ps(q.lo), hi = _mm512_set1_ps(q.hi);
  for (int j = 0; j < panels; ++j) {
    const int channel = t.channel + 16 * j;
    const __mmask16 mask = requantize_mask16(t.n - channel);
    const __m512 multiplier = _mm512_loadu_ps(q.multiplier + channel);
    const __m512 offset = _mm512_loadu_ps(q.offset + channel);
    uint8_t* y = t.y + 4 * channel;
    for (int m = 0; m < pixels; ++m, y += t.y_stride) {
      const __m512 f = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[m * panels + j]), multiplier, offset);
      _mm512_mask_storeu_ps(y, mask, requantize_clamp16(f, lo, hi));
    }
  }
}

// The general epilogues work from memory, so that they exist once and not per tile shape.
[[gnu::noinline]] void store_general(const Tile& t, const __m512i* acc, int pixels, int panels) {
  if (t.requantize->f32_output) return store_f32(t, acc, pixels, panels);
  for (int m = 0; m < pixels; ++m) {
    const uint8_t* residual = t.residual == nullptr ? nullptr : t.residual + m * t.residual_stride;
    for (int j = 0; j < panels; ++j) {
      const int channel = t.channel + 16 * j;
      requantize_store16(*t.requantize, acc[m * panels + j], channel, t.n - channel, residual,
                         t.y + m * t.y_stride);
    }
  }
}

// Bytes of the pixels m, m + 1, ... that fill one vector: 4, 2 or 1 of them for 1, 2 or more panels.
template <int M, int PIXELS, bool PLAIN>
[[gnu::always_inline]] inline void store_pixels(uint8_t* y, ptrdiff_t stride, int m, __mmask64 mask,
                                                __m512i bytes) {
  if (PIXELS == 1) {
    if (PLAIN)
      _mm512_storeu_si512(y, bytes);
    else
      _mm512_mask_storeu_epi8(y, mask, bytes);
  } else if (PIXELS == 2) {
    const __m256i first = _mm512_castsi512_si256(bytes), second = _mm512_extracti64x4_epi64(bytes, 1);
    const __mmask32 mask32 = static_cast<__mmask32>(mask);
    if (PLAIN) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), first);
      if (m + 1 < M) _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + stride), second);
    } else {
      _mm256_mask_storeu_epi8(y, mask32, first);
      if (m + 1 < M) _mm256_mask_storeu_epi8(y + stride, mask32, second);
    }
  } else {
    const __mmask16 mask16 = static_cast<__mmask16>(mask);
    _mm_mask_storeu_epi8(y, mask16, _mm512_castsi512_si128(bytes));
    if (m + 1 < M) _mm_mask_storeu_epi8(y + stride, mask16, _mm512_extracti32x4_epi32(bytes, 1));
    if (m + 2 < M) _mm_mask_storeu_epi8(y + 2 * stride, mask16, _mm512_extracti32x4_epi32(bytes, 2));
    if (m + 3 < M) _mm_mask_storeu_epi8(y + 3 * stride, mask16, _mm512_extracti32x4_epi32(bytes, 3));
  }
}

// PLAIN: the tile has all of its channels, and the packs saturate to what the bounds are.
template <int M, int NV, bool RESIDUAL, bool PLAIN>
[[gnu::always_inline]] inline void store_u8(const Tile& tile, const __m512i (&acc)[M * NV]) {
  // Copies, since a store of bytes may change what references refer to: members would be loaded again.
  const Tile t = tile;
  const Requantize q = *t.requantize;
  const RequantizeVectors constants = requantize_vectors(q);
  constexpr int kPixels = NV == 1 ? 4 : NV == 2 ? 2 : 1;  // pixels whose bytes fill one vector
  constexpr int kVectors = NV <= 4 ? NV : 4;
#pragma GCC unroll 2
  for (int j = 0; j < NV; j += kVectors) {
    const int channel = t.channel + 16 * j;
    const int left = t.n - channel;
    if (!PLAIN && left <= 0) return;
    // The last group of 5 to 7 panels is narrower: what lies beyond the tile belongs to another one.
    const int width = 16 * (NV - j < kVectors ? NV - j : kVectors);
    const __mmask64 mask = _bzhi_u64(~0ull, left < width ? left : width);
#pragma GCC unroll 16
    for (int m = 0; m < M; m += kPixels) {
      __m512i v[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const int pixel = m + i / kVectors, panel = j + i % kVectors;
        const bool used = i / kVectors < kPixels && pixel < M && panel < NV;
        if (!used) {
          v[i] = v[0];
          continue;
        }
        const __m512i value = acc[pixel * NV + panel];
        const int first = t.channel + 16 * panel;
        if (RESIDUAL) {
          const uint8_t* residual = t.residual + pixel * t.residual_stride + first;
          const __m128i bytes =
              PLAIN ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(residual))
                    : _mm_maskz_loadu_epi8(static_cast<__mmask16>(mask >> (16 * (panel - j))), residual);
          v[i] = requantize_residual_to_s32(constants, requantize_scale(q, value, first), bytes);
        } else {
          v[i] = requantize_to_s32(q, value, first);
        }
      }
      const __m512i bytes = PLAIN ? requantize_pack_whole(v[0], v[1], v[2], v[3])
                                  : requantize_pack(constants, v[0], v[1], v[2], v[3]);
      store_pixels<M, kPixels, PLAIN && (kPixels > 1 || NV == 4 || NV == 8)>(t.y + m * t.y_stride + channel,
                                                                             t.y_stride, m, mask, bytes);
    }
  }
}

[[gnu::always_inline]] inline __m512i broadcast4(const uint8_t* x) {
  int32_t value;
  __builtin_memcpy(&value, x, 4);
  return _mm512_set1_epi32(value);
}

// Products of 4 channels, `offset` bytes behind the pointers x, one for every three pixels.
template <int M, int NV>
[[gnu::always_inline]] inline void add_products(const Tile& t, const int8_t* w,
                                                const uint8_t* const (&x)[(M + 2) / 3], ptrdiff_t offset,
                                                __m512i (&acc)[M * NV]) {
  __m512i weights[NV];
#pragma GCC unroll 8
  for (int j = 0; j < NV; ++j) {
    weights[j] = _mm512_loadu_si512(w + j * t.w_stride);
    if (M <= 3) _mm_prefetch(reinterpret_cast<const char*>(w + j * t.w_stride + kPrefetchBytes), _MM_HINT_T0);
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
    const __m512i value = broadcast4(x[m / 3] + (m % 3) * t.x_stride + offset);
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) acc[m * NV + j] = _mm512_dpbusd_epi32(acc[m * NV + j], value, weights[j]);
  }
}

// AHEAD: weights that come next are fetched meanwhile.
template <int M, int NV, bool AHEAD = false>
void run_tiles(const Tile& tile) {
  Tile t = tile;
  for (;;) {
    __m512i acc[M * NV];
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) {
      const __m512i init = _mm512_loadu_si512(t.requantize->acc_init + t.channel + 16 * j);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) acc[m * NV + j] = init;
    }
    const int8_t* w = t.w;
    [[maybe_unused]] const int8_t* next = t.next;
    const ptrdiff_t s = t.x_stride;
    for (int tap = 0; tap < t.taps; ++tap) {
      // One pointer per three pixels: the others are reached as [p + s] and [p + 2 * s], so registers
      // suffice.
      const uint8_t* x[(M + 2) / 3];
#pragma GCC unroll 5
      for (int i = 0; i < (M + 2) / 3; ++i) x[i] = t.x + t.tap_offset[tap] + 3 * i * s;
      // Two groups a turn: without them the pointers take a tenth of the instructions.
      int g = 0;
      for (; g + 2 <= t.groups; g += 2) {
        add_products<M, NV>(t, w, x, 0, acc);
        if (AHEAD) {
          _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T1);
          next += 64;
        }
        add_products<M, NV>(t, w + 64, x, 4, acc);
        w += 128;
#pragma GCC unroll 5
        for (int i = 0; i < (M + 2) / 3; ++i) x[i] += 8;
      }
      if (g < t.groups) {
        add_products<M, NV>(t, w, x, 0, acc);
        w += 64;
      }
    }
    if (t.general) {
      __m512i memory[M * NV];
#pragma GCC unroll 28
      for (int i = 0; i < M * NV; ++i) memory[i] = acc[i];
      store_general(t, memory, M, NV);
    } else if (t.residual != nullptr) {
      if (t.whole_range && t.n - t.channel >= 16 * NV)
        store_u8<M, NV, true, true>(t, acc);
      else
        store_u8<M, NV, true, false>(t, acc);
    } else {
      if (t.whole_range && t.n - t.channel >= 16 * NV)
        store_u8<M, NV, false, true>(t, acc);
      else
        store_u8<M, NV, false, false>(t, acc);
    }
    if (--t.count == 0) return;
    t.x += t.x_step;
    t.y += t.y_step;
    if (t.residual != nullptr) t.residual += t.residual_step;
    if (AHEAD) t.next += t.ahead;
  }
}

using TileFunction = void (*)(const Tile&);

#define PYRUNTIME_TILE_ROW(m) \
  {run_tiles<m, 1>, run_tiles<m, 2>, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr}
#define PYRUNTIME_TILE_ROW3(m) \
  {run_tiles<m, 1>, run_tiles<m, 2>, run_tiles<m, 3>, nullptr, nullptr, nullptr, nullptr, nullptr}
#define PYRUNTIME_TILE_ROW4(m) \
  {run_tiles<m, 1>, run_tiles<m, 2>, run_tiles<m, 3>, run_tiles<m, 4>, nullptr, nullptr, nullptr, nullptr}
#define PYRUNTIME_TILE_ROW8(m)                                         \
  {run_tiles<m, 1>, run_tiles<m, 2>, run_tiles<m, 3>, run_tiles<m, 4>, \
   run_tiles<m, 5>, run_tiles<m, 6>, run_tiles<m, 7>, run_tiles<m, 8>}

// [pixels - 1][panels - 1]
constexpr TileFunction kTiles[kMaxPixels][kMaxPanels] = {
    PYRUNTIME_TILE_ROW8(1), PYRUNTIME_TILE_ROW8(2), PYRUNTIME_TILE_ROW8(3), PYRUNTIME_TILE_ROW4(4),
    PYRUNTIME_TILE_ROW4(5), PYRUNTIME_TILE_ROW4(6), PYRUNTIME_TILE_ROW3(7), PYRUNTIME_TILE_ROW3(8),
    PYRUNTIME_TILE_ROW3(9), PYRUNTIME_TILE_ROW(10), PYRUNTIME_TILE_ROW(11), PYRUNTIME_TILE_ROW(12),
    PYRUNTIME_TILE_ROW(13), PYRUNTIME_TILE_ROW(14),
};

// [pixels - 4], as many panels as panels_for says. Functions of their own: a second loop beside the first
// has GCC spill accumulators, and without weights to fetch the instruction costs 2 % of the time.
constexpr TileFunction kTilesAhead[kMaxPixels - 3] = {
    run_tiles<4, 4, true>,  run_tiles<5, 4, true>,  run_tiles<6, 4, true>,  run_tiles<7, 3, true>,
    run_tiles<8, 3, true>,  run_tiles<9, 3, true>,  run_tiles<10, 2, true>, run_tiles<11, 2, true>,
    run_tiles<12, 2, true>, run_tiles<13, 2, true>, run_tiles<14, 2, true>};

// Panels per tile for tiles of `pixels` pixels.
int panels_for(int pixels) { return pixels <= 3 ? 8 : pixels <= 6 ? 4 : pixels <= 9 ? 3 : 2; }

// The largest tile for rows of `cols` pixels and `panels` panels, by the instructions that all tiles take: of
// `steps` of 4 channels each is a load for every panel, a broadcast for every pixel, and their products;
// loads of weights count twice, as L2 is slow for tiles of 3 or 4 pixels (0.7 of the speed of 7). With a
// neighbour on the other hyperthread of a core it is these that count: tiles of 6 x 4 are a tenth faster
// there than those of 14 x 2. Without one they are as fast, but where steps are few, what comes before and
// after the products is worth 200. With a residual 6 x 4 beat 10 x 2 by a tenth.
int pixels_for(int cols, int panels, int64_t steps, int most) {
  constexpr int64_t kTileInstructions = 200;
  constexpr int kPixels[] = {6, 9, kMaxPixels};
  int best = most;
  int64_t least = 0;
  for (int wanted : kPixels) {
    const int pixels = wanted < most ? wanted : most;
    const int tiles = (cols + pixels - 1) / pixels, small = cols / tiles, larger = cols % tiles;
    int64_t instructions = 0;
    for (int i = 0; i < 2; ++i) {
      const int m = small + i, count = i == 0 ? tiles - larger : larger;
      const int step = panels_for(m), rest = panels % step;
      instructions += count * (panels / step * (steps * (m * step + m + 2 * step + 2) + kTileInstructions));
      if (rest > 0) instructions += count * (steps * (m * rest + m + 2 * rest + 2) + kTileInstructions);
    }
    if (least == 0 || instructions < least) {
      least = instructions;
      best = pixels;
    }
  }
  return best;
}

// All pixels for the panels [panel_begin, panel_end); a row of them is cut into `tiles`. Meanwhile the
// weights at `next`, as many, come from L3 unless it is null: the first tile of the next panels would wait
// for them, for a twentieth of the time of ResNet-50 and BERT-base.
void run_panels(const ConvInt8Args& args, int panel_begin, int panel_end, int tiles, bool general,
                const int8_t* next) {
  const Requantize& q = args.requantize;
  const int small = args.cols / tiles,
            larger = args.cols % tiles;  // the first `larger` tiles have one pixel more
  Tile t{};
  t.x_stride = args.x_col_stride;
  t.tap_offset = args.tap_offset;
  t.taps = args.taps;
  t.groups = (args.k + 3) / 4;
  t.w_stride = conv_int8::panel16_stride(args.taps, args.k, 4);
  t.n = args.n;
  t.y_stride = args.y_col_stride;
  t.residual_stride = q.residual_col_stride;
  t.requantize = &q;
  t.general = general;
  t.whole_range = requantize_whole_range(q);
  // Of the next weights for every panel of a tile.
  const ptrdiff_t ahead = t.w_stride / (args.rows * tiles) / 64 * 64;
  // The tiles of a row follow one another; where a row is one tile, those of the rows below do.
  const bool down = tiles == 1;
  for (int row = 0; row < args.rows; row += down ? t.count : 1) {
    t.x = args.x + row * args.x_row_stride;
    t.y = static_cast<uint8_t*>(args.y) + row * args.y_row_stride;
    t.residual = q.residual == nullptr ? nullptr : q.residual + row * q.residual_row_stride;
    for (int i = 0; i < tiles; i += down ? 1 : t.count) {
      const int pixels = small + (i < larger ? 1 : 0);
      const int alike = down ? args.rows - row : (i < larger ? larger : tiles) - i;
      t.count = alike < kMostTiles ? alike : kMostTiles;
      t.x_step = down ? args.x_row_stride : pixels * t.x_stride;
      t.y_step = down ? args.y_row_stride : pixels * t.y_stride;
      t.residual_step = down ? q.residual_row_stride : pixels * t.residual_stride;
      const int step = panels_for(pixels);
      for (int p = panel_begin; p < panel_end; p += step) {
        const int panels = panel_end - p < step ? panel_end - p : step;
        t.w = static_cast<const int8_t*>(args.w) + p * t.w_stride;
        t.channel = 16 * p;
        if (next != nullptr && pixels > 3 && panels == step) {
          t.next = next + (p - panel_begin) * ahead;
          t.ahead = (panel_end - panel_begin) * ahead;
          kTilesAhead[pixels - 4](t);
        } else {
          kTiles[pixels - 1][panels - 1](t);
        }
      }
      if (next != nullptr) next += t.count * (panel_end - panel_begin) * ahead;
      t.x += t.count * t.x_step;
      t.y += t.count * t.y_step;
      if (t.residual != nullptr) t.residual += t.count * t.residual_step;
    }
  }
}

}  // namespace

void run_conv_int8_u8s8s32_14x32x4__avx512vnni(const ConvInt8Args& given) {
  if (given.rows <= 0 || given.cols <= 0) return;
  const ConvInt8Args args = conv_int8::flatten(given);
  const int narrow =
      conv_int8::first_of_panel8(args.n, args.taps, args.k);  // from here on, panels of 8 channels
  const int panel_begin = args.n_begin / 16,
            panel_end = ((args.n_end < narrow ? args.n_end : narrow) + 15) / 16;
  const int panels = narrow / 16;  // of the layer
  const ptrdiff_t stride = conv_int8::panel16_stride(args.taps, args.k, 4);
  const ptrdiff_t bytes = (panel_end - panel_begin) * stride;
  const bool general = conv_int8::needs_general_epilogue(args);
  const int pixels = pixels_for(args.cols, panel_end - panel_begin, args.taps * ((args.k + 3) / 4),
                                args.requantize.residual == nullptr ? kMaxPixels : kMaxPixelsResidual);
  const int tiles = (args.cols + pixels - 1) / pixels;
  const ptrdiff_t inputs = static_cast<ptrdiff_t>(args.rows) * args.cols * args.k;
  const bool by_panels = bytes > kWeightsInL2 || (bytes > kManyWeights && inputs < kFewInputs);
  const int step = by_panels ? panels_for((args.cols + tiles - 1) / tiles) : panel_end - panel_begin;
  for (int p = panel_begin; p < panel_end; p += step) {
    const int end = panel_end - p < step ? panel_end : p + step;
    // Behind the last ones, those of the task that follows.
    const bool ahead = (by_panels || args.n / 16 * stride > kWeightsInL2) && end < panels;
    run_panels(args, p, end, tiles, general,
               ahead ? static_cast<const int8_t*>(args.w) + end * stride : nullptr);
  }
  if (args.n_end <= narrow) return;
  const int begin = args.n_begin > narrow ? args.n_begin : narrow;
  const int8_t* w = static_cast<const int8_t*>(args.w) + narrow / 16 * stride +
                    (begin - narrow) / 8 * conv_int8::panel8_stride(args.taps, args.k);
  conv_int8::run_panel8__avx512vnni(args, w, begin, args.n_end, general);
}

}  // namespace pyruntime
