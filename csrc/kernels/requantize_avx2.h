// The epilogue of kernels/requantize.h on AVX2: 16 channels of one pixel in two vectors of 8 accumulators.
//
// For u8 output without residual only the upper bound is applied in float (it keeps vcvtps2dq from
// overflowing upwards; an overflow downwards gives INT_MIN, which the packs saturate to 0); the lower bound
// follows on packed bytes. Include in AVX2 sources only: everything is forced inline, nothing may be linked
// as a shared copy.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/requantize.h"

namespace pyruntime {

[[gnu::always_inline]] static inline __m256 requantize_scale8(const Requantize& q, __m256i acc, int channel) {
  return _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc), _mm256_loadu_ps(q.multiplier + channel),
                         _mm256_loadu_ps(q.offset + channel));
}

// max(f, lo) and min(., hi) give the bounds for NaN as requantize_clamp does.
[[gnu::always_inline]] static inline __m256 requantize_clamp8(__m256 f, float lo, float hi) {
  return _mm256_min_ps(_mm256_max_ps(f, _mm256_set1_ps(lo)), _mm256_set1_ps(hi));
}

// Two vectors of s32 -> 16 bytes in order, saturated to [0, 255]. The values must fit s16 after saturation to
// u16, that is, be at most 32767.
[[gnu::always_inline]] static inline __m128i requantize_pack16(__m256i a, __m256i b) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8);
  return _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

[[gnu::always_inline]] static inline __m256 requantize_residual8(const Requantize& q, __m256 f,
                                                                 __m128i residual) {
  const __m256 r = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(residual));
  const __m256 other = _mm256_fmadd_ps(r, _mm256_set1_ps(q.b_multiplier), _mm256_set1_ps(q.add_offset));
  const __m256 q1 = _mm256_round_ps(f, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  return requantize_clamp8(_mm256_fmadd_ps(q1, _mm256_set1_ps(q.a_multiplier), other), q.add_lo, q.add_hi);
}

// 8 s32 in [0, 255] -> 8 bytes in order.
[[gnu::always_inline]] static inline __m128i requantize_pack8(__m256i v) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(v, v), 0xd8);
  return _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_castsi256_si128(words));
}

// Any kind of output, 8 channels: the first `channels` of them are stored. y and residual point at channel 0
// of the pixel.
[[gnu::always_inline]] static inline void requantize_store8(const Requantize& q, __m256i acc, int channel,
                                                            int channels, const uint8_t* residual, void* y) {
  const size_t count = static_cast<size_t>(channels < 8 ? channels : 8);
  __m256 f = requantize_clamp8(requantize_scale8(q, acc, channel), q.lo, q.hi);
  if (q.f32_output) {
    alignas(32) float values[8];
    _mm256_store_ps(values, f);
    __builtin_memcpy(static_cast<float*>(y) + channel, values, count * 4);
    return;
  }
  if (residual != nullptr) {
    uint64_t bytes = 0;
    __builtin_memcpy(&bytes, residual + channel, count);
    f = requantize_residual8(q, f, _mm_cvtsi64_si128(static_cast<long long>(bytes)));
  }
  const uint64_t packed = static_cast<uint64_t>(_mm_cvtsi128_si64(requantize_pack8(_mm256_cvtps_epi32(f))));
  __builtin_memcpy(static_cast<uint8_t*>(y) + channel, &packed, count);
}

// Any kind of output for 16 channels from `channel` on, of which the first `channels` are stored. y and
// residual point at channel 0 of the pixel.
[[gnu::always_inline]] static inline void requantize_store16_avx2(const Requantize& q, __m256i acc0,
                                                                  __m256i acc1, int channel, int channels,
                                                                  const uint8_t* residual, void* y) {
  __m256 f0 = requantize_scale8(q, acc0, channel), f1 = requantize_scale8(q, acc1, channel + 8);
  if (q.f32_output) {
    f0 = requantize_clamp8(f0, q.lo, q.hi);
    f1 = requantize_clamp8(f1, q.lo, q.hi);
    float* out = static_cast<float*>(y) + channel;
    if (channels >= 16) {
      _mm256_storeu_ps(out, f0);
      _mm256_storeu_ps(out + 8, f1);
      return;
    }
    alignas(32) float part[16];
    _mm256_store_ps(part, f0);
    _mm256_store_ps(part + 8, f1);
    for (int i = 0; i < channels; ++i) out[i] = part[i];
    return;
  }
  __m128i bytes;
  if (residual != nullptr) {
    const __m128i r16 = _mm_loadu_si128(reinterpret_cast<const __m128i*>(residual + channel));
    f0 = requantize_residual8(q, requantize_clamp8(f0, q.lo, q.hi), r16);
    f1 = requantize_residual8(q, requantize_clamp8(f1, q.lo, q.hi), _mm_srli_si128(r16, 8));
    bytes = requantize_pack16(_mm256_cvtps_epi32(f0), _mm256_cvtps_epi32(f1));
  } else {
    const __m256 hi = _mm256_set1_ps(q.hi);
    bytes = requantize_pack16(_mm256_cvtps_epi32(_mm256_min_ps(hi, f0)),
                              _mm256_cvtps_epi32(_mm256_min_ps(hi, f1)));
    bytes = _mm_max_epu8(bytes, _mm_set1_epi8(static_cast<char>(static_cast<int>(q.lo))));
  }
  uint8_t* out = static_cast<uint8_t*>(y) + channel;
  if (channels >= 16) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), bytes);
    return;
  }
  if (channels >= 8) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out), bytes);
    bytes = _mm_srli_si128(bytes, 8);
    out += 8;
    channels -= 8;
  }
  alignas(16) uint8_t part[16];
  _mm_store_si128(reinterpret_cast<__m128i*>(part), bytes);
  for (int i = 0; i < channels; ++i) out[i] = part[i];
}

// 16 channels of two pixels, s32 in [.., 32767] after saturation to u16: the bytes of the first pixel in the
// low half, of the second in the high half.
[[gnu::always_inline]] static inline __m256i requantize_pack32(const __m256i (&a)[2], const __m256i (&b)[2]) {
  const __m256i words0 = _mm256_packus_epi32(a[0], a[1]), words1 = _mm256_packus_epi32(b[0], b[1]);
  const __m256i bytes = _mm256_packus_epi16(words0, words1);
  return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

// As requantize_store_tile_avx2, of 16 whole channels with a residual. The sums go through memory, so that
// all constants stay in registers.
template <int M>
[[gnu::always_inline]] static inline void requantize_add_tile_avx2(const Requantize& q,
                                                                   const __m256i (&acc)[M][2], int channel,
                                                                   const uint8_t* residual,
                                                                   ptrdiff_t residual_stride, uint8_t* y,
                                                                   ptrdiff_t stride) {
  __m256i sums[M + 1][2];
#pragma GCC unroll 6
  for (int m = 0; m <= M; ++m) {
    sums[m][0] = acc[m < M ? m : M - 1][0];
    sums[m][1] = acc[m < M ? m : M - 1][1];
  }
  const __m256 lo = _mm256_set1_ps(q.lo), hi = _mm256_set1_ps(q.hi), add_hi = _mm256_set1_ps(q.add_hi);
  const __m256 a = _mm256_set1_ps(q.a_multiplier), b = _mm256_set1_ps(q.b_multiplier),
               offset = _mm256_set1_ps(q.add_offset);
  const __m256i add_lo = _mm256_set1_epi8(static_cast<char>(static_cast<int>(q.add_lo)));
  residual += channel;
  y += channel;
#pragma GCC unroll 1
  for (int m = 0; m < M; m += 2) {
    const ptrdiff_t next = m + 1 < M ? 1 : 0;
    __m256i value[2][2];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const uint8_t* from = residual + (i / 2) * next * residual_stride + 8 * (i % 2);
      const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
      const __m256 other = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)), b, offset);
      const __m256 f = requantize_scale8(q, sums[m + i / 2][i % 2], channel + 8 * (i % 2));
      const __m256 own = _mm256_round_ps(_mm256_min_ps(_mm256_max_ps(f, lo), hi),
                                         _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
      value[i / 2][i % 2] = _mm256_cvtps_epi32(_mm256_min_ps(add_hi, _mm256_fmadd_ps(own, a, other)));
    }
    const __m256i bytes = _mm256_max_epu8(requantize_pack32(value[0], value[1]), add_lo);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y + next * stride), _mm256_extracti128_si256(bytes, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y), _mm256_castsi256_si128(bytes));
    residual += 2 * residual_stride;
    y += 2 * stride;
  }
}

// A tile of M pixels x 16 channels whose rows are `stride` bytes apart: as requantize_store16_avx2 for each
// pixel, with u8 output of 16 whole channels and no residual, the common case, two pixels at a time.
template <int M>
[[gnu::always_inline]] static inline void requantize_store_tile_avx2(const Requantize& q,
                                                                     const __m256i (&acc)[M][2], int channel,
                                                                     int channels, const uint8_t* residual,
                                                                     ptrdiff_t residual_stride, uint8_t* y,
                                                                     ptrdiff_t stride) {
  if (residual != nullptr && channels >= 16) {
    requantize_add_tile_avx2<M>(q, acc, channel, residual, residual_stride, y, stride);
    return;
  }
  if (q.f32_output || channels < 16) {
#pragma GCC unroll 6
    for (int m = 0; m < M; ++m) {
      const uint8_t* r = residual == nullptr ? nullptr : residual + m * residual_stride;
      requantize_store16_avx2(q, acc[m][0], acc[m][1], channel, channels, r, y + m * stride);
    }
    return;
  }
  const __m256 hi = _mm256_set1_ps(q.hi);
  const __m256i lo = _mm256_set1_epi8(static_cast<char>(static_cast<int>(q.lo)));
  const __m256 multiplier[2] = {_mm256_loadu_ps(q.multiplier + channel),
                                _mm256_loadu_ps(q.multiplier + channel + 8)};
  const __m256 offset[2] = {_mm256_loadu_ps(q.offset + channel), _mm256_loadu_ps(q.offset + channel + 8)};
  uint8_t* out = y + channel;
#pragma GCC unroll 6
  for (int m = 0; m < M; m += 2) {
    __m256i value[2][2];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const __m256 sum = _mm256_cvtepi32_ps(acc[m + i / 2 < M ? m + i / 2 : m][i % 2]);
      const __m256 f = _mm256_min_ps(hi, _mm256_fmadd_ps(sum, multiplier[i % 2], offset[i % 2]));
      value[i / 2][i % 2] = _mm256_cvtps_epi32(f);
    }
    const __m256i bytes = _mm256_max_epu8(requantize_pack32(value[0], value[1]), lo);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + m * stride), _mm256_castsi256_si128(bytes));
    if (m + 1 < M)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + (m + 1) * stride),
                       _mm256_extracti128_si256(bytes, 1));
  }
}

}  // namespace pyruntime
