// Panels of 8 output channels (panel8.h). A tile is M pixels x NV panels: for every tap and every 8 input
// channels NV loads of 64 weight bytes, M broadcasts of 8 activation bytes, M * NV VPDPBUSD. The two sums of
// a channel stand side by side; those of two pixels are added to one vector, channel by channel.
#include <immintrin.h>

#include "kernels/conv_int8/pack.h"
#include "kernels/conv_int8/panel8.h"
#include "kernels/requantize_avx512.h"

namespace pyruntime {
namespace {

constexpr int kChannels = 8;
constexpr int kMaxPanels = 3;
constexpr int kMaxPixels[kMaxPanels] = {16, 14, 8};  // of a tile, by its panels

// Everything a tile needs; the pointers stand at its first pixel.
struct Tile {
  const uint8_t* x;
  ptrdiff_t x_stride;
  const int32_t* tap_offset;
  int taps, steps;  // of 8 channels per tap
  const int8_t* w;
  ptrdiff_t w_stride;
  int channel, channels;  // the first, and how many there are
  uint8_t* y;             // channel 0
  ptrdiff_t y_stride;
  const uint8_t* residual;
  ptrdiff_t residual_stride;
  const Requantize* requantize;
  bool general;
};

// Dwords 2 o and 2 o + 1 hold value o.
[[gnu::always_inline]] inline __m512i twice(const void* values) {
  const __m512i order = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  const __m256i eight = _mm256_loadu_si256(static_cast<const __m256i*>(values));
  return _mm512_permutexvar_epi32(order, _mm512_castsi256_si512(eight));
}

// Of sums side by side: dword 2 o + i is that of channel o, pixel i.
[[gnu::always_inline]] inline __m512i add_sides(__m512i a, __m512i b) {
  const __m512i even = _mm512_mask_shuffle_epi32(a, 0xaaaa, b, _MM_PERM_CCAA);
  const __m512i odd = _mm512_mask_shuffle_epi32(b, 0x5555, a, _MM_PERM_DDBB);
  return _mm512_add_epi32(even, odd);
}

// Four vectors of add_sides, rounded: the bytes of 8 pixels, 8 channels each.
[[gnu::always_inline]] inline __m512i pack_pixels(const RequantizeVectors& constants, const __m512i (&v)[4]) {
  const __m512i bytes =
      requantize_words(constants, _mm512_packs_epi32(v[0], v[1]), _mm512_packs_epi32(v[2], v[3]));
  // A 128-bit lane has two channels of every pixel: they become a word, then the four words of a pixel meet.
  const __m512i words =
      _mm512_shuffle_epi8(bytes, _mm512_set4_epi32(0x0f0d0e0c, 0x0b090a08, 0x07050604, 0x03010200));
  const __m512i order = _mm512_set_epi16(31, 23, 15, 7, 30, 22, 14, 6, 29, 21, 13, 5, 28, 20, 12, 4, 27, 19,
                                         11, 3, 26, 18, 10, 2, 25, 17, 9, 1, 24, 16, 8, 0);
  return _mm512_permutexvar_epi16(order, words);
}

[[gnu::always_inline]] inline __m128i load8(const uint8_t* x) {
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(x));
}

// The sums of a tile, added: [panel][two pixels].
struct Sums {
  alignas(64) __m512i of[kMaxPanels][8];
};

// `bytes`: 8 pixels of a panel, of which `count` are stored.
[[gnu::always_inline]] inline void store_panel(uint8_t* y, ptrdiff_t y_stride, int channels, __m512i bytes,
                                               int count) {
  alignas(64) uint8_t memory[64];
  _mm512_store_si512(memory, bytes);
  const __mmask16 mask = requantize_mask16(channels < kChannels ? channels : kChannels);
  for (int i = 0; i < count; ++i) _mm_mask_storeu_epi8(y + i * y_stride, mask, load8(memory + 8 * i));
}

// `bytes`: of each panel, 8 pixels of which `count` are stored, from `pixel` on.
template <int NV>
[[gnu::always_inline]] inline void store_bytes(const Tile& t, const __m512i (&bytes)[NV], int pixel,
                                               int count) {
  uint8_t* y = t.y + t.channel + pixel * t.y_stride;
  if constexpr (NV >= 2) {
    const __mmask16 mask = requantize_mask16(t.channels);
    // Of pixels 0, 2, 4, 6, then of 1, 3, 5, 7: the bytes of both panels side by side.
    alignas(64) uint8_t memory[128];
    _mm512_store_si512(memory, _mm512_unpacklo_epi64(bytes[0], bytes[1]));
    _mm512_store_si512(memory + 64, _mm512_unpackhi_epi64(bytes[0], bytes[1]));
    for (int i = 0; i < count; ++i) {
      const __m128i* of_pixel = reinterpret_cast<const __m128i*>(memory + 16 * (i / 2) + 64 * (i % 2));
      _mm_mask_storeu_epi8(y + i * t.y_stride, mask, _mm_load_si128(of_pixel));
    }
    if constexpr (NV == 3) store_panel(y + 16, t.y_stride, t.channels - 16, bytes[2], count);
  } else if (t.y_stride == kChannels && t.channels == kChannels) {
    _mm512_mask_storeu_epi8(y, _bzhi_u64(~0ull, static_cast<unsigned>(8 * count)), bytes[0]);
  } else {
    store_panel(y, t.y_stride, t.channels, bytes[0], count);
  }
}

// Once for every number of panels, not for every tile: it works from memory.
template <int NV, bool kResidual>
[[gnu::noinline]] void store_u8(const Tile& tile, const Sums& sums, int pixels) {
  const Tile t = tile;  // a store of bytes may change what references refer to
  const RequantizeVectors constants = requantize_vectors(*t.requantize);
  __m512 multiplier[NV], offset[NV];
#pragma GCC unroll 3
  for (int j = 0; j < NV; ++j) {
    multiplier[j] = _mm512_castsi512_ps(twice(t.requantize->multiplier + t.channel + kChannels * j));
    offset[j] = _mm512_castsi512_ps(twice(t.requantize->offset + t.channel + kChannels * j));
  }
  for (int p = 0; p < pixels; p += 8) {
    __m512i bytes[NV];
#pragma GCC unroll 3
    for (int j = 0; j < NV; ++j) {
      __m512i v[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const __m512 f = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums.of[j][p / 2 + i]), multiplier[j], offset[j]);
        if (kResidual) {
          const int a = p + 2 * i < pixels ? p + 2 * i : pixels - 1, b = a + 1 < pixels ? a + 1 : a;
          const uint8_t* residual = t.residual + t.channel + kChannels * j;
          const __m128i both = _mm_unpacklo_epi8(load8(residual + a * t.residual_stride),
                                                 load8(residual + b * t.residual_stride));
          v[i] = requantize_residual_to_s32(constants, f, both);
        } else {
          v[i] = _mm512_cvtps_epi32(f);
        }
      }
      bytes[j] = pack_pixels(constants, v);
    }
    store_bytes<NV>(t, bytes, p, pixels - p < 8 ? pixels - p : 8);
  }
}

[[gnu::noinline]] void store_general(const Tile& t, const Sums& sums, int pixels, int panels) {
  for (int j = 0; j < panels; ++j) {
    for (int p = 0; p < pixels; ++p) {
      const __m512i sum = _mm512_maskz_compress_epi32(p % 2 == 0 ? 0x5555 : 0xaaaa, sums.of[j][p / 2]);
      const uint8_t* residual = t.residual == nullptr ? nullptr : t.residual + p * t.residual_stride;
      const int left = t.channels - kChannels * j;
      requantize_store16(*t.requantize, sum, t.channel + kChannels * j, left < kChannels ? left : kChannels,
                         residual, t.y + p * t.y_stride);
    }
  }
}

// One pointer per five pixels: the others are reached as [p + s], [p + 2 * s], [p + s3], [p + 4 * s].
constexpr int kPerPointer = 5;
constexpr int pointers(int pixels) { return (pixels + kPerPointer - 1) / kPerPointer; }

// Products of 8 channels; s3 is three times the stride.
template <int M, int NV>
[[gnu::always_inline]] inline void add_products(const Tile& t, ptrdiff_t s3, const int8_t* w,
                                                const uint8_t* const (&x)[pointers(M)], ptrdiff_t offset,
                                                __m512i (&acc)[M][NV]) {
  __m512i weights[NV];
#pragma GCC unroll 3
  for (int j = 0; j < NV; ++j) weights[j] = _mm512_loadu_si512(w + j * t.w_stride);
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
    const int place = m % kPerPointer;
    const ptrdiff_t apart = place == 3 ? s3 : place * t.x_stride;
    int64_t eight;
    __builtin_memcpy(&eight, x[m / kPerPointer] + apart + offset, 8);
    const __m512i value = _mm512_set1_epi64(eight);
#pragma GCC unroll 3
    for (int j = 0; j < NV; ++j) {
      acc[m][j] = _mm512_dpbusd_epi32(acc[m][j], value, weights[j]);
      asm("" : "+v"(acc[m][j]));  // or GCC 12 moves every sum to another register and back, in each step
    }
  }
}

template <int M, int NV>
void run_tile(const Tile& given) {
  const Tile t = given;
  __m512i acc[M][NV];
#pragma GCC unroll 3
  for (int j = 0; j < NV; ++j) {
    const __m512i init =
        _mm512_maskz_mov_epi32(0x5555, twice(t.requantize->acc_init + t.channel + kChannels * j));
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) acc[m][j] = init;
  }
  const int8_t* w = t.w;
  const ptrdiff_t s3 = 3 * t.x_stride;
  constexpr int kPointers = pointers(M);
  for (int tap = 0; tap < t.taps; ++tap) {
    const uint8_t* x[kPointers];
#pragma GCC unroll 4
    for (int i = 0; i < kPointers; ++i) x[i] = t.x + t.tap_offset[tap] + kPerPointer * i * t.x_stride;
    int step = 0;
    for (; step + 2 <= t.steps; step += 2, w += 128) {
      add_products<M, NV>(t, s3, w, x, 0, acc);
      add_products<M, NV>(t, s3, w + 64, x, 8, acc);
#pragma GCC unroll 4
      for (int i = 0; i < kPointers; ++i) x[i] += 16;
    }
    if (step < t.steps) {
      add_products<M, NV>(t, s3, w, x, 0, acc);
      w += 64;
    }
  }
  Sums sums;
#pragma GCC unroll 3
  for (int j = 0; j < NV; ++j) {
#pragma GCC unroll 8
    for (int i = 0; i < (M + 7) / 8 * 4; ++i) {  // what belongs to no pixel is not stored
      const int a = 2 * i < M ? 2 * i : 0, b = 2 * i + 1 < M ? 2 * i + 1 : a;
      sums.of[j][i] = add_sides(acc[a][j], acc[b][j]);
    }
  }
  if (t.general) {
    store_general(given, sums, M, NV);
  } else if (t.residual != nullptr) {
    store_u8<NV, true>(given, sums, M);
  } else {
    store_u8<NV, false>(given, sums, M);
  }
}

using TileFunction = void (*)(const Tile&);

// [panels - 1][pixels - 1]
constexpr TileFunction kTiles[kMaxPanels][16] = {
    {run_tile<1, 1>, run_tile<2, 1>, run_tile<3, 1>, run_tile<4, 1>, run_tile<5, 1>, run_tile<6, 1>,
     run_tile<7, 1>, run_tile<8, 1>, run_tile<9, 1>, run_tile<10, 1>, run_tile<11, 1>, run_tile<12, 1>,
     run_tile<13, 1>, run_tile<14, 1>, run_tile<15, 1>, run_tile<16, 1>},
    {run_tile<1, 2>, run_tile<2, 2>, run_tile<3, 2>, run_tile<4, 2>, run_tile<5, 2>, run_tile<6, 2>,
     run_tile<7, 2>, run_tile<8, 2>, run_tile<9, 2>, run_tile<10, 2>, run_tile<11, 2>, run_tile<12, 2>,
     run_tile<13, 2>, run_tile<14, 2>},
    {run_tile<1, 3>, run_tile<2, 3>, run_tile<3, 3>, run_tile<4, 3>, run_tile<5, 3>, run_tile<6, 3>,
     run_tile<7, 3>, run_tile<8, 3>}};

}  // namespace

void conv_int8::run_panel8__avx512vnni(const ConvInt8Args& args, const int8_t* w, int begin, int end,
                                       bool general) {
  const Requantize& q = args.requantize;
  const int panels = (end - begin + kChannels - 1) / kChannels, most = kMaxPixels[panels - 1];
  const int tiles = (args.cols + most - 1) / most, small = args.cols / tiles,
            larger = args.cols % tiles;  // the first `larger` tiles have one pixel more
  Tile t;
  t.x_stride = args.x_col_stride;
  t.tap_offset = args.tap_offset;
  t.taps = args.taps;
  t.steps = (args.k + 7) / 8;
  t.w = w;
  t.w_stride = panel8_stride(args.taps, args.k);
  t.channel = begin;
  t.channels = end - begin;
  t.y_stride = args.y_col_stride;
  t.residual_stride = q.residual_col_stride;
  t.requantize = &q;
  t.general = general;
  for (int row = 0; row < args.rows; ++row) {
    t.x = args.x + row * args.x_row_stride;
    t.y = static_cast<uint8_t*>(args.y) + row * args.y_row_stride;
    t.residual = q.residual == nullptr ? nullptr : q.residual + row * q.residual_row_stride;
    for (int i = 0; i < tiles; ++i) {
      const int pixels = small + (i < larger ? 1 : 0);
      kTiles[panels - 1][pixels - 1](t);
      t.x += pixels * t.x_stride;
      t.y += pixels * t.y_stride;
      if (t.residual != nullptr) t.residual += pixels * t.residual_stride;
    }
  }
}

}  // namespace pyruntime
