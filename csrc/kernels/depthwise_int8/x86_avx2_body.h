// What the rows of depthwise_int8 with vectors of 8 sums share: 32 channels of a few pixels, of which
// accumulator v holds channels 4 * v to 4 * v + 3 of both halves, since unpacking works within 128 bits;
// packing the results to bytes puts them back in order. Include in AVX2 sources only.
#pragma once

#include <immintrin.h>

#include "kernels/depthwise_int8/depthwise_int8.h"
#include "kernels/requantize_avx2.h"

namespace pyruntime {
namespace {

// The entries of channels 4 * v + (0, 1, 2, 3) and 16 + 4 * v + (0, 1, 2, 3) of a per-channel array.
[[gnu::always_inline]] inline __m256i gather_halves(const void* array, int v) {
  const __m128i* at = static_cast<const __m128i*>(array);
  return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(at + v)), _mm_loadu_si128(at + 4 + v),
                                 1);
}

// Of 32 channels, in the order of the accumulators.
struct Parameters {
  __m256i init[4];
  __m256 multiplier[4], offset[4];
};

// Where a tile stands: x, y, residual at channel 0 of the first pixel; w and parameters at the 32 channels
// from `channel` on.
struct Tile {
  const uint8_t* x;
  uint8_t* y;
  const uint8_t* residual;
  const __m256i* w;
  const Parameters* parameters;
  int channel;
};

[[gnu::always_inline]] inline __m256i load32(const uint8_t* x) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
}

// The first `channels` of 32 bytes.
[[gnu::always_inline]] inline void store_channels(uint8_t* y, __m256i bytes, int channels) {
  if (channels >= 32) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), bytes);
    return;
  }
  __m128i rest = _mm256_castsi256_si128(bytes);
  if (channels >= 16) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y), rest);
    rest = _mm256_extracti128_si256(bytes, 1);
    channels -= 16;
    y += 16;
  }
  if (channels >= 8) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(y), rest);
    rest = _mm_srli_si128(rest, 8);
    channels -= 8;
    y += 8;
  }
  alignas(16) uint8_t part[16];
  _mm_store_si128(reinterpret_cast<__m128i*>(part), rest);
  for (int i = 0; i < channels; ++i) y[i] = part[i];
}

// u8 output without residual.
template <int M>
[[gnu::always_inline]] inline void store_bytes(const DepthwiseInt8Args& args, const Tile& t,
                                               const __m256i (&acc)[M][4]) {
  const Requantize& q = args.requantize;
  const __m256 hi = _mm256_set1_ps(q.hi);
  const __m256i lo = _mm256_set1_epi8(static_cast<char>(static_cast<int>(q.lo)));
  __m256i value[M][4];
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
#pragma GCC unroll 3
    for (int m = 0; m < M; ++m) {
      const __m256 f = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc[m][v]), t.parameters->multiplier[v],
                                       t.parameters->offset[v]);
      value[m][v] = _mm256_cvtps_epi32(_mm256_min_ps(hi, f));
    }
  }
#pragma GCC unroll 3
  for (int m = 0; m < M; ++m) {
    const __m256i bytes = _mm256_packus_epi16(_mm256_packus_epi32(value[m][0], value[m][1]),
                                              _mm256_packus_epi32(value[m][2], value[m][3]));
    store_channels(t.y + m * args.y_col_stride + t.channel, _mm256_max_epu8(bytes, lo),
                   args.channel_end - t.channel);
  }
}

// Any output of one pixel, m pixels behind the first. Works from memory, so that it exists once and takes no
// registers from the fast path.
[[gnu::noinline]] void store_any(const DepthwiseInt8Args& args, const Tile& t, int m, const __m256i* acc) {
  const Requantize& q = args.requantize;
  const uint8_t* r = t.residual == nullptr ? nullptr : t.residual + m * q.residual_col_stride;
  for (int half = 0; half < 2; ++half) {
    const int channel = t.channel + 16 * half, channels = args.channel_end - channel;
    if (channels <= 0) continue;
    // Halves of vectors 0 and 1, then of 2 and 3: 16 channels in order.
    const __m256i first = half == 0 ? _mm256_permute2x128_si256(acc[0], acc[1], 0x20)
                                    : _mm256_permute2x128_si256(acc[0], acc[1], 0x31);
    const __m256i second = half == 0 ? _mm256_permute2x128_si256(acc[2], acc[3], 0x20)
                                     : _mm256_permute2x128_si256(acc[2], acc[3], 0x31);
    requantize_store16_avx2(q, first, second, channel, channels, r, t.y + m * args.y_col_stride);
  }
}

template <int M>
[[gnu::always_inline]] inline void load_init(const Tile& t, __m256i (&acc)[M][4]) {
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
#pragma GCC unroll 3
    for (int m = 0; m < M; ++m) acc[m][v] = t.parameters->init[v];
  }
}

template <int M>
[[gnu::always_inline]] inline void store_tile(const DepthwiseInt8Args& args, const Tile& t,
                                              const __m256i (&acc)[M][4]) {
  if (!args.requantize.f32_output && t.residual == nullptr) {
    store_bytes<M>(args, t, acc);
    return;
  }
  __m256i memory[M][4];
#pragma GCC unroll 3
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) memory[m][v] = acc[m][v];
  }
  for (int m = 0; m < M; ++m) store_any(args, t, m, memory[m]);
}

[[gnu::always_inline]] inline void advance(const DepthwiseInt8Args& args, int pixels, Tile* t) {
  t->x += pixels * args.x_col_stride;
  t->y += pixels * args.y_col_stride;
  if (t->residual != nullptr) t->residual += pixels * args.requantize.residual_col_stride;
}

// run(tile) for every row and 32 channels; `weights(channel)` are those of the 32 channels.
template <typename Weights, typename Run>
[[gnu::always_inline]] inline void for_each_row(const DepthwiseInt8Args& args, Weights weights, Run run) {
  const Requantize& q = args.requantize;
  Parameters parameters;
  Tile t{};
  t.parameters = &parameters;
  for (int row = 0; row < args.rows; ++row) {
    t.x = args.x + row * args.x_row_stride;
    t.y = static_cast<uint8_t*>(args.y) + row * args.y_row_stride;
    t.residual = q.residual == nullptr ? nullptr : q.residual + row * q.residual_row_stride;
    for (t.channel = args.channel_begin; t.channel < args.channel_end; t.channel += 32) {
      t.w = weights(t.channel);
      for (int v = 0; v < 4; ++v) {
        parameters.init[v] = gather_halves(q.acc_init + t.channel, v);
        parameters.multiplier[v] = _mm256_castsi256_ps(gather_halves(q.multiplier + t.channel, v));
        parameters.offset[v] = _mm256_castsi256_ps(gather_halves(q.offset + t.channel, v));
      }
      run(t);
    }
  }
}

}  // namespace
}  // namespace pyruntime
