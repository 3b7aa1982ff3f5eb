// 1x4-block weights for many pixels (sparse_twins.h): inputs of up to 8 vectors of 16 pixels are transposed
// into scratch[block][pixel] dwords, then each output channel walks its own list of blocks. A block takes a
// load of its number, a broadcast of its weights, and a load and a VPDPBUSD per pixel vector: the more
// vectors, the less the first two weigh on the two loads a cycle.
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

constexpr int kLanes = conv_int8::kTwinPixels, kGroup = conv_int8::kTwinGroup;
static_assert(kTwinVectors * kLanes <= kStripPixels, "a strip holds all vectors");

// 16 bytes at `offset` of 16 pixels: dword i of all of them in out[i].
[[gnu::always_inline]] inline void load_dwords(const uint8_t* const* pixel, ptrdiff_t offset, __m512i* out) {
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j)
    out[j] =
        load_lanes(pixel[j] + offset, pixel[4 + j] + offset, pixel[8 + j] + offset, pixel[12 + j] + offset);
  transpose_4x4(out);
}

// inputs[tap * blocks + channel / 4][pixel] = 4 channels of a pixel.
void transpose_inputs(const ConvInt8Args& args, const Strip& strip, int vectors, int32_t* inputs) {
  const int blocks = (args.k + 3) / 4;
  for (int t = 0; t < args.taps; ++t) {
    for (int v = 0; v < vectors; ++v) {
      for (int b = 0; b < blocks; b += 4) {
        __m512i dwords[4];
        load_dwords(strip.x + v * kLanes, args.tap_offset[t] + 4 * b, dwords);
        int32_t* out = inputs + (static_cast<ptrdiff_t>(t * blocks + b) * vectors + v) * kLanes;
        const int valid = blocks - b < 4 ? blocks - b : 4;
        for (int i = 0; i < valid; ++i) _mm512_store_si512(out + i * vectors * kLanes, dwords[i]);
      }
    }
  }
}

// Sums of two output channels for V pixel vectors. With few vectors two steps at a time, so that enough
// chains of VPDPBUSD are in flight to hide its latency.
template <int V>
[[gnu::noinline]] void accumulate(const int32_t* w, const uint16_t* block, size_t steps,
                                  const int32_t* inputs, const int32_t (&init)[2],
                                  int32_t* const (&sums)[2]) {
  constexpr size_t kUnroll = V <= 2 ? 2 : 1;
  __m512i acc[2 * kUnroll][V];
#pragma GCC unroll 4
  for (size_t c = 0; c < 2 * kUnroll; ++c) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[c][v] = _mm512_set1_epi32(c < 2 ? init[c] : 0);
  }
  size_t s = 0;
  for (; s + kUnroll <= steps; s += kUnroll, w += 2 * kUnroll, block += 2 * kUnroll) {
#pragma GCC unroll 4
    for (size_t c = 0; c < 2 * kUnroll; ++c) {
      const int32_t* x = inputs + static_cast<size_t>(block[c]) * (V * kLanes);
      const __m512i weights = _mm512_set1_epi32(w[c]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v)
        acc[c][v] = _mm512_dpbusd_epi32(acc[c][v], _mm512_load_si512(x + v * kLanes), weights);
    }
  }
  if (kUnroll > 1 && s < steps) {
#pragma GCC unroll 2
    for (size_t c = 0; c < 2; ++c) {
      const int32_t* x = inputs + static_cast<size_t>(block[c]) * (V * kLanes);
      const __m512i weights = _mm512_set1_epi32(w[c]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v)
        acc[c][v] = _mm512_dpbusd_epi32(acc[c][v], _mm512_load_si512(x + v * kLanes), weights);
    }
  }
#pragma GCC unroll 2
  for (size_t c = 0; c < 2; ++c) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const __m512i sum =
          kUnroll == 1 ? acc[c][v] : _mm512_add_epi32(acc[c][v], acc[(c + 2) % (2 * kUnroll)][v]);
      _mm512_store_si512(sums[c] + v * kLanes, sum);
    }
  }
}

// 16 channels of up to 16 pixels, whose sums stand `stride` values apart.
struct Results {
  const int32_t* sums;  // [16 channels][stride], 16 pixels of each
  ptrdiff_t stride;
  int channel, channels;  // the first; how many of them
  int pixels;
  const uint8_t* const* residual;
  uint8_t* const* y;
};

template <bool kResidual>
void store_u8(const Requantize& q, const Results& r) {
  const RequantizeVectors constants = requantize_vectors(q);
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
    const __m512i bytes = requantize_words(constants, _mm512_packs_epi32(value[0], value[1]),
                                           _mm512_packs_epi32(value[2], value[3]));
    quad[i] = _mm512_shuffle_epi8(bytes, by_pixel);
  }
  transpose_4x4(quad);  // lane l of quad[j]: pixel 4 l + j
  alignas(64) __m128i rows[16];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) _mm512_store_si512(rows + 4 * j, quad[j]);
  const __mmask16 mask = requantize_mask16(r.channels);
  for (int p = 0; p < r.pixels; ++p) _mm_mask_storeu_epi8(r.y[p] + r.channel, mask, rows[p % 4 * 4 + p / 4]);
}

[[gnu::noinline]] void store_general(const Requantize& q, const Results& r) {
  __m512i acc[kLanes];
  for (int i = 0; i < kLanes; ++i) acc[i] = _mm512_load_si512(r.sums + i * r.stride);
  transpose_16x16(acc);
  for (int p = 0; p < r.pixels; ++p) {
    const uint8_t* residual = q.residual == nullptr ? nullptr : r.residual[p];
    requantize_store16(q, acc[p], r.channel, r.channels, residual, r.y[p]);
  }
}

template <int V>
void run_strip(const ConvInt8Args& args, const SparseTwins& twins, const Strip& strip, bool general) {
  auto* inputs = static_cast<int32_t*>(args.scratch);
  const size_t blocks = static_cast<size_t>(args.taps) * static_cast<size_t>((args.k + 3) / 4);
  int32_t* sums = inputs + blocks * V * kLanes;
  const Requantize& q = args.requantize;
  transpose_inputs(args, strip, V, inputs);
  for (int o = args.n_begin; o < args.n_end; o += kGroup) {
    Results r;
    r.stride = V * kLanes;
    r.channel = o;
    r.channels = args.n_end - o < kGroup ? args.n_end - o : kGroup;
    const int group = o / kGroup;
    for (int i = group * kGroup; i < (group + 1) * kGroup; i += 2) {
      const int channel[2] = {twins.channel[i], twins.channel[i + 1]};
      const int32_t init[2] = {q.acc_init[o + channel[0]], q.acc_init[o + channel[1]]};
      int32_t* const to[2] = {sums + channel[0] * r.stride, sums + channel[1] * r.stride};
      const size_t first = twins.first[i / 2];
      accumulate<V>(twins.weights + 2 * first, twins.block + 2 * first, twins.first[i / 2 + 1] - first,
                    inputs, init, to);
    }
    for (int v = 0; v < V; ++v) {
      const int left = strip.count - v * kLanes;
      r.sums = sums + v * kLanes;
      r.pixels = left < kLanes ? left : kLanes;
      r.residual = strip.residual + v * kLanes;
      r.y = strip.y + v * kLanes;
      if (general)
        store_general(q, r);
      else if (q.residual != nullptr)
        store_u8<true>(q, r);
      else
        store_u8<false>(q, r);
    }
  }
}

using StripFunction = void (*)(const ConvInt8Args&, const SparseTwins&, const Strip&, bool general);
constexpr StripFunction kStrips[kTwinVectors] = {run_strip<1>, run_strip<2>, run_strip<3>, run_strip<4>,
                                                 run_strip<5>, run_strip<6>, run_strip<7>, run_strip<8>};

}  // namespace

void run_conv_int8_u8s8s32_block4_128x2__avx512vnni(const ConvInt8Args& args) {
  if (args.rows <= 0 || args.cols <= 0) return;
  const SparseTwins twins = conv_int8::sparse_twins(args.w, args.n);
  const bool general = conv_int8::needs_general_epilogue(args);
  const int vectors = (args.rows * args.cols + kLanes - 1) / kLanes;
  const int most = conv_int8::twin_vectors(args.taps, args.k);
  const int strips = (vectors + most - 1) / most;  // of nearly equal width
  Strip strip;
  for (int s = 0, row = 0, col = 0; s < strips; ++s) {
    const int width = static_cast<int>(static_cast<int64_t>(vectors) * (s + 1) / strips -
                                       static_cast<int64_t>(vectors) * s / strips);
    fill_strip(args, width * kLanes, &row, &col, &strip);
    for (int i = strip.count; i < width * kLanes; ++i) {  // what is computed there is not stored
      strip.x[i] = strip.x[strip.count - 1];
      strip.residual[i] = strip.residual[strip.count - 1];
    }
    kStrips[width - 1](args, twins, strip, general);
  }
}

}  // namespace pyruntime
