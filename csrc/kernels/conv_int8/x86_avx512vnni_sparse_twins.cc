// 1x4-block weights for many pixels (sparse_twins.h): inputs of up to 8 vectors of 16 pixels are transposed
// into scratch as dwords, one block of 4 channels of a pixel each, then each output channel walks its own
// list of blocks. A block takes a load of its number and of its place, a broadcast of its weights, and a load
// and a VPDPBUSD per pixel vector: the more vectors, the less the others weigh on the two loads a cycle.
//
// The epilogue keeps pixels in the lanes: bytes of four channels are packed into the dwords of 16 pixels, and
// four such vectors transposed within 128-bit lanes are 16 channels of 16 pixels.
#include <immintrin.h>

#include "kernels/conv_int8/epilogue_avx512.h"
#include "kernels/conv_int8/sparse_pixel.h"
#include "kernels/conv_int8/sparse_twins.h"
#include "kernels/requantize_avx512.h"
#include "kernels/transpose_avx512.h"

namespace pyruntime {
namespace {

using conv_int8::kTwinVectors;
using conv_int8::SparseTwins;
using conv_int8::TwinWindow;

constexpr int kLanes = conv_int8::kTwinPixels, kGroup = conv_int8::kTwinGroup;

// 16 bytes at `offset` of 16 pixels: dword i of all of them in out[i].
[[gnu::always_inline]] inline void load_dwords(const uint8_t* const* pixel, ptrdiff_t offset, __m512i* out) {
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j)
    out[j] =
        load_lanes(pixel[j] + offset, pixel[4 + j] + offset, pixel[8 + j] + offset, pixel[12 + j] + offset);
  transpose_4x4(out);
}

// inputs[tap * blocks + channel / 4][pixel] = 4 channels of a pixel.
void transpose_taps(const ConvInt8Args& args, const uint8_t* const* x, int vectors, int32_t* inputs) {
  const int blocks = (args.k + 3) / 4;
  for (int t = 0; t < args.taps; ++t) {
    for (int v = 0; v < vectors; ++v) {
      for (int b = 0; b < blocks; b += 4) {
        __m512i dwords[4];
        load_dwords(x + v * kLanes, args.tap_offset[t] + 4 * b, dwords);
        int32_t* out = inputs + (static_cast<ptrdiff_t>(t * blocks + b) * vectors + v) * kLanes;
        const int valid = blocks - b < 4 ? blocks - b : 4;
        for (int i = 0; i < valid; ++i) _mm512_store_si512(out + i * vectors * kLanes, dwords[i]);
      }
    }
  }
}

// inputs[channel / 4][place] = 4 channels of the pixel at x + place * x_col_stride; beyond `last`, of that
// one.
void transpose_window(const ConvInt8Args& args, const TwinWindow& window, const uint8_t* x, int places,
                      int last, int32_t* inputs) {
  for (int place = 0; place < places; place += kLanes) {
    const uint8_t* pixel[kLanes];
    for (int i = 0; i < kLanes; ++i) pixel[i] = x + (place + i < last ? place + i : last) * args.x_col_stride;
    for (int b = 0; b < window.blocks; b += 4) {
      __m512i dwords[4];
      load_dwords(pixel, 4 * b, dwords);
      int32_t* out = inputs + static_cast<ptrdiff_t>(b) * places + place;
      const int valid = window.blocks - b < 4 ? window.blocks - b : 4;
      for (int i = 0; i < valid; ++i) _mm512_store_si512(out + i * places, dwords[i]);
    }
  }
}

// Output pixels of a strip, and the transposed inputs: block b of pixel p is inputs[place[b] + p] in a shared
// window, inputs[b * pixels of the strip + p] without.
struct TwinStrip {
  const uint8_t* residual[kTwinVectors * kLanes];
  uint8_t* y[kTwinVectors * kLanes];
  const int32_t *inputs, *place;
  int32_t* sums;
};

template <int V, bool kShared>
[[gnu::always_inline]] inline const int32_t* block_inputs(const TwinStrip& strip, uint16_t block) {
  return strip.inputs + (kShared ? strip.place[block] : block * (V * kLanes));
}

// Sums of the channels i and i + 1 of the lists, for V pixel vectors; acc_init is that of their group. With
// few vectors two steps at a time, so that enough chains of VPDPBUSD are in flight to hide its latency.
template <int V, bool kShared>
[[gnu::noinline]] void accumulate(const SparseTwins& twins, int i, const TwinStrip& strip,
                                  const int32_t* acc_init) {
  constexpr size_t kUnroll = V <= 2 ? 2 : 1;
  const size_t first = twins.first[i / 2], steps = twins.first[i / 2 + 1] - first;
  const int32_t* w = twins.weights + 2 * first;
  const uint16_t* block = twins.block + 2 * first;
  __m512i acc[2 * kUnroll][V];
#pragma GCC unroll 4
  for (size_t c = 0; c < 2 * kUnroll; ++c) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v)
      acc[c][v] = _mm512_set1_epi32(c < 2 ? acc_init[twins.channel[i + static_cast<int>(c)]] : 0);
  }
  size_t s = 0;
  for (; s + kUnroll <= steps; s += kUnroll, w += 2 * kUnroll, block += 2 * kUnroll) {
#pragma GCC unroll 4
    for (size_t c = 0; c < 2 * kUnroll; ++c) {
      const int32_t* x = block_inputs<V, kShared>(strip, block[c]);
      const __m512i weights = _mm512_set1_epi32(w[c]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v)
        acc[c][v] = _mm512_dpbusd_epi32(acc[c][v], _mm512_loadu_si512(x + v * kLanes), weights);
    }
  }
  if (kUnroll > 1 && s < steps) {
#pragma GCC unroll 2
    for (size_t c = 0; c < 2; ++c) {
      const int32_t* x = block_inputs<V, kShared>(strip, block[c]);
      const __m512i weights = _mm512_set1_epi32(w[c]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v)
        acc[c][v] = _mm512_dpbusd_epi32(acc[c][v], _mm512_loadu_si512(x + v * kLanes), weights);
    }
  }
#pragma GCC unroll 2
  for (size_t c = 0; c < 2; ++c) {
    int32_t* sums = strip.sums + twins.channel[i + static_cast<int>(c)] * (V * kLanes);
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const __m512i sum =
          kUnroll == 1 ? acc[c][v] : _mm512_add_epi32(acc[c][v], acc[(c + 2) % (2 * kUnroll)][v]);
      _mm512_store_si512(sums + v * kLanes, sum);
    }
  }
}

// 16 channels of up to 16 pixels, whose sums stand `stride` values apart.
struct Results {
  const int32_t* sums;  // [16 channels][stride], 16 pixels of each
  ptrdiff_t stride;
  int channel, channels;           // the first; how many of them
  const uint8_t* const* residual;  // of 16 pixels
  uint8_t* const* y;
};

[[gnu::always_inline]] inline void store16(uint8_t* y, __m128i bytes) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(y), bytes);
}

// kPlain: all 16 channels, and the packs saturate to what the bounds are.
template <bool kResidual, bool kPlain>
void store_u8(const Requantize& q, const RequantizeVectors& constants, const Results& r) {
  // Dword p of every 128-bit lane: bytes p of its dwords, which are four channels.
  const __m512i by_pixel = _mm512_set4_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400);
  __m512i residual[4], quad[4];
  if (kResidual) load_dwords(r.residual, r.channel, residual);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    __m512i value[4];
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      const int channel = r.channel + 4 * i + c;
      const __m512 acc = _mm512_cvtepi32_ps(_mm512_load_si512(r.sums + (4 * i + c) * r.stride));
      __m512 f =
          _mm512_fmadd_ps(acc, _mm512_set1_ps(q.multiplier[channel]), _mm512_set1_ps(q.offset[channel]));
      if (kResidual) {
        const __m512i byte = _mm512_and_si512(_mm512_srli_epi32(residual[i], static_cast<unsigned>(8 * c)),
                                              _mm512_set1_epi32(255));
        const __m512 q1 = _mm512_roundscale_ps(requantize_clamp16(f, constants.lo, constants.hi),
                                               _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        const __m512 other =
            _mm512_fmadd_ps(_mm512_cvtepi32_ps(byte), constants.b_multiplier, constants.add_offset);
        f = _mm512_fmadd_ps(q1, constants.a_multiplier, other);
      }
      value[c] = _mm512_cvtps_epi32(f);
    }
    const __m512i low = _mm512_packs_epi32(value[0], value[1]);
    const __m512i high = _mm512_packs_epi32(value[2], value[3]);
    const __m512i bytes = kPlain ? _mm512_packus_epi16(low, high) : requantize_words(constants, low, high);
    quad[i] = _mm512_shuffle_epi8(bytes, by_pixel);
  }
  transpose_4x4(quad);            // lane l of quad[j]: pixel 4 l + j
  uint8_t* const* const y = r.y;  // stores of bytes would have members loaded again
  const ptrdiff_t channel = r.channel;
  const __mmask16 mask = requantize_mask16(r.channels);
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    if (kPlain) {
      store16(y[j] + channel, _mm512_castsi512_si128(quad[j]));
      store16(y[4 + j] + channel, _mm512_extracti32x4_epi32(quad[j], 1));
      store16(y[8 + j] + channel, _mm512_extracti32x4_epi32(quad[j], 2));
      store16(y[12 + j] + channel, _mm512_extracti32x4_epi32(quad[j], 3));
      continue;
    }
    _mm_mask_storeu_epi8(y[j] + channel, mask, _mm512_castsi512_si128(quad[j]));
    _mm_mask_storeu_epi8(y[4 + j] + channel, mask, _mm512_extracti32x4_epi32(quad[j], 1));
    _mm_mask_storeu_epi8(y[8 + j] + channel, mask, _mm512_extracti32x4_epi32(quad[j], 2));
    _mm_mask_storeu_epi8(y[12 + j] + channel, mask, _mm512_extracti32x4_epi32(quad[j], 3));
  }
}

[[gnu::noinline]] void store_general(const Requantize& q, const Results& r) {
  __m512i acc[kLanes];
  for (int i = 0; i < kLanes; ++i) acc[i] = _mm512_load_si512(r.sums + i * r.stride);
  transpose_16x16(acc);
  for (int p = 0; p < kLanes; ++p) {
    const uint8_t* residual = q.residual == nullptr ? nullptr : r.residual[p];
    requantize_store16(q, acc[p], r.channel, r.channels, residual, r.y[p]);
  }
}

template <int V, bool kShared>
void run_strip(const ConvInt8Args& args, const SparseTwins& twins, const TwinStrip& strip, bool general) {
  const Requantize& q = args.requantize;
  const RequantizeVectors constants = requantize_vectors(q);
  const bool whole_range = requantize_whole_range(q);
  for (int o = args.n_begin; o < args.n_end; o += kGroup) {
    Results r;
    r.stride = V * kLanes;
    r.channel = o;
    r.channels = args.n_end - o < kGroup ? args.n_end - o : kGroup;
    const int group = o / kGroup;
    for (int i = group * kGroup; i < (group + 1) * kGroup; i += 2)
      accumulate<V, kShared>(twins, i, strip, q.acc_init + o);
    for (int v = 0; v < V; ++v) {
      r.sums = strip.sums + v * kLanes;
      r.residual = strip.residual + v * kLanes;
      r.y = strip.y + v * kLanes;
      const bool plain = whole_range && r.channels == kGroup;
      if (general)
        store_general(q, r);
      else if (q.residual != nullptr)
        plain ? store_u8<true, true>(q, constants, r) : store_u8<true, false>(q, constants, r);
      else
        plain ? store_u8<false, true>(q, constants, r) : store_u8<false, false>(q, constants, r);
    }
  }
}

using StripFunction = void (*)(const ConvInt8Args&, const SparseTwins&, const TwinStrip&, bool general);
template <bool kShared>
constexpr StripFunction kStrips[kTwinVectors] = {
    run_strip<1, kShared>, run_strip<2, kShared>, run_strip<3, kShared>, run_strip<4, kShared>,
    run_strip<5, kShared>, run_strip<6, kShared>, run_strip<7, kShared>, run_strip<8, kShared>};

}  // namespace

void run_conv_int8_u8s8s32_block4_128x2__avx512vnni(const ConvInt8Args& args) {
  if (args.rows <= 0 || args.cols <= 0) return;
  const SparseTwins twins = conv_int8::sparse_twins(args.w, args.n);
  const bool general = conv_int8::needs_general_epilogue(args);
  const TwinWindow window = conv_int8::twin_window(args);
  // A window counts the pixels between the rows along, so that every tap is at the same distance everywhere.
  const int pitch = window.shared ? window.row_places : args.cols;
  const int pixels = (args.rows - 1) * pitch + args.cols;
  const int vectors = (pixels + kLanes - 1) / kLanes, most = conv_int8::twin_vectors(args, window);
  const int strips = (vectors + most - 1) / most;  // of nearly equal width
  TwinStrip strip;
  auto* place = static_cast<int32_t*>(args.scratch);
  strip.place = place;
  strip.sums = place + conv_int8::twin_place_entries(args);
  int32_t* inputs = strip.sums + kGroup * most * kLanes;
  strip.inputs = inputs;
  auto* nowhere = reinterpret_cast<uint8_t*>(inputs + conv_int8::twin_input_entries(args, window, most));
  for (int s = 0, pixel = 0, placed = 0, row = 0, col = 0; s < strips; ++s) {
    const int width = static_cast<int>(static_cast<int64_t>(vectors) * (s + 1) / strips -
                                       static_cast<int64_t>(vectors) * s / strips);
    const uint8_t* x[kTwinVectors * kLanes];
    for (int i = 0; i < width * kLanes; ++i) {  // what lies between rows or behind the last goes nowhere
      const bool between = col >= args.cols;
      const int near = between ? args.cols - 1 : col;
      x[i] = pixel_x(args, row, near);
      strip.residual[i] = pixel_residual(args.requantize, row, near);
      strip.y[i] = between ? nowhere : pixel_y(args, row, near);
      if (++col == pitch && row + 1 < args.rows) {
        col = 0;
        ++row;
      }
    }
    if (window.shared && placed != width) conv_int8::place_twin_blocks(args, window, width, place);
    placed = width;
    if (window.shared)
      transpose_window(args, window, args.x + pixel * args.x_col_stride, window.places(width),
                       pixels - 1 - pixel + window.reach, inputs);
    else
      transpose_taps(args, x, width, inputs);
    (window.shared ? kStrips<true> : kStrips<false>)[width - 1](args, twins, strip, general);
    pixel += width * kLanes;
  }
}

}  // namespace pyruntime
