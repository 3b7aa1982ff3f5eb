// The epilogue of kernels/requantize.h on AVX-512 vectors of 16 accumulators (one pixel, 16 channels each).
//
// For u8 output only the upper bound is applied in float: min(hi, f) keeps vcvtps2dq from overflowing
// upwards, an overflow downwards gives INT_MIN, which the saturating packs turn into 0, and the lower bound
// follows on packed bytes. vpackusdw and vpackuswb work within 128-bit lanes; one vpermd restores the order
// of four packed vectors. Include in AVX-512 sources only: everything is forced inline, nothing may be linked
// as a shared copy.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/requantize.h"

namespace pyruntime {

[[gnu::always_inline]] static inline __m512 requantize_scale(const Requantize& q, __m512i acc, int channel) {
  return _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc), _mm512_loadu_ps(q.multiplier + channel),
                         _mm512_loadu_ps(q.offset + channel));
}

// u8 output without residual: s32 values that the packs below saturate to [0, 255]; the lower bound is still
// to apply.
[[gnu::always_inline]] static inline __m512i requantize_to_s32(const Requantize& q, __m512i acc,
                                                               int channel) {
  return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_set1_ps(q.hi), requantize_scale(q, acc, channel)));
}

// Four vectors of 16 -> 64 bytes in order, lower bound applied.
[[gnu::always_inline]] static inline __m512i requantize_pack(const Requantize& q, __m512i a, __m512i b,
                                                             __m512i c, __m512i d) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i bytes = _mm512_packus_epi16(_mm512_packus_epi32(a, b), _mm512_packus_epi32(c, d));
  const __m512i lo = _mm512_set1_epi8(static_cast<char>(static_cast<int>(q.lo)));
  return _mm512_permutexvar_epi32(order, _mm512_max_epu8(bytes, lo));
}

// max(f, lo) and min(., hi) give the bounds for NaN as requantize_clamp does.
[[gnu::always_inline]] static inline __m512 requantize_clamp16(__m512 f, float lo, float hi) {
  return _mm512_min_ps(_mm512_max_ps(f, _mm512_set1_ps(lo)), _mm512_set1_ps(hi));
}

[[gnu::always_inline]] static inline __mmask16 requantize_mask16(int channels) {
  return channels >= 16 ? static_cast<__mmask16>(0xffff) : static_cast<__mmask16>((1u << channels) - 1u);
}

// Any kind of output, 16 channels at a time: the first `channels` of them are stored. y and residual point at
// channel 0 of the pixel. For the cases whose epilogue is not worth a specialization: f32 output, residuals,
// odd tails.
[[gnu::always_inline]] static inline void requantize_store16(const Requantize& q, __m512i acc, int channel,
                                                             int channels, const uint8_t* residual, void* y) {
  const __mmask16 mask = requantize_mask16(channels);
  __m512 f = requantize_clamp16(requantize_scale(q, acc, channel), q.lo, q.hi);
  if (q.f32_output) {
    _mm512_mask_storeu_ps(static_cast<float*>(y) + channel, mask, f);
    return;
  }
  if (residual != nullptr) {
    const __m512 r = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, residual + channel)));
    const __m512 other = _mm512_fmadd_ps(r, _mm512_set1_ps(q.b_multiplier), _mm512_set1_ps(q.add_offset));
    const __m512 q1 = _mm512_roundscale_ps(f, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    f = requantize_clamp16(_mm512_fmadd_ps(q1, _mm512_set1_ps(q.a_multiplier), other), q.add_lo, q.add_hi);
  }
  _mm512_mask_cvtepi32_storeu_epi8(static_cast<uint8_t*>(y) + channel, mask, _mm512_cvtps_epi32(f));
}

}  // namespace pyruntime
