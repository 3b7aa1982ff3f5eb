// The epilogue of kernels/requantize.h on AVX2 vectors of 8 accumulators (one pixel, 8 channels).
// Include in AVX2 sources only: everything is forced inline, nothing may be linked as a shared copy.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/requantize.h"

namespace pyruntime {

// max(f, lo) and min(., hi) give the bounds for NaN as requantize_clamp does.
[[gnu::always_inline]] static inline __m256 requantize_clamp8(__m256 f, float lo, float hi) {
  return _mm256_min_ps(_mm256_max_ps(f, _mm256_set1_ps(lo)), _mm256_set1_ps(hi));
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
  const __m256 scaled = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc), _mm256_loadu_ps(q.multiplier + channel),
                                        _mm256_loadu_ps(q.offset + channel));
  __m256 f = requantize_clamp8(scaled, q.lo, q.hi);
  if (q.f32_output) {
    float* out = static_cast<float*>(y) + channel;
    if (channels >= 8) {
      _mm256_storeu_ps(out, f);
    } else {
      alignas(32) float values[8];
      _mm256_store_ps(values, f);
      __builtin_memcpy(out, values, static_cast<size_t>(channels) * 4);
    }
    return;
  }
  if (residual != nullptr) {
    uint64_t bytes = 0;
    __builtin_memcpy(&bytes, residual + channel, static_cast<size_t>(channels < 8 ? channels : 8));
    const __m256 r =
        _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(bytes))));
    const __m256 other = _mm256_fmadd_ps(r, _mm256_set1_ps(q.b_multiplier), _mm256_set1_ps(q.add_offset));
    const __m256 q1 = _mm256_round_ps(f, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    f = requantize_clamp8(_mm256_fmadd_ps(q1, _mm256_set1_ps(q.a_multiplier), other), q.add_lo, q.add_hi);
  }
  const uint64_t packed = static_cast<uint64_t>(_mm_cvtsi128_si64(requantize_pack8(_mm256_cvtps_epi32(f))));
  __builtin_memcpy(static_cast<uint8_t*>(y) + channel, &packed,
                   static_cast<size_t>(channels < 8 ? channels : 8));
}

}  // namespace pyruntime
