// The epilogue of kernels/requantize.h on AVX-512 vectors of 16 accumulators (one pixel, 16 channels each).
//
// u8 output has a fast form for accumulators whose scaled values are known to fit s32
// (requantize_fits_s32): no clamp in float, the packs saturate to [0, 255] and the bounds follow on packed
// bytes. vpackssdw and vpackuswb work within 128-bit lanes; one vpermd restores the order of four packed
// vectors.
//
// Include in AVX-512 sources only: everything is forced inline, nothing may be linked as a shared copy.
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

[[gnu::always_inline]] static inline __mmask16 requantize_mask16(int channels) {
  return channels >= 16 ? static_cast<__mmask16>(0xffff) : static_cast<__mmask16>((1u << channels) - 1u);
}

// True if the scaled values of the channels [begin, end) fit s32 for sums of products up to `products` in
// magnitude.
[[gnu::always_inline]] static inline bool requantize_fits_s32(const Requantize& q, int begin, int end,
                                                              float products) {
  unsigned beyond = 0;
  for (int channel = begin; channel < end; channel += 16) {
    const __m512 init = _mm512_abs_ps(_mm512_cvtepi32_ps(_mm512_loadu_si512(q.acc_init + channel)));
    const __m512 scale = _mm512_abs_ps(_mm512_loadu_ps(q.multiplier + channel));
    const __m512 offset = _mm512_abs_ps(_mm512_loadu_ps(q.offset + channel));
    const __m512 largest = _mm512_fmadd_ps(_mm512_add_ps(init, _mm512_set1_ps(products)), scale, offset);
    const __mmask16 used = requantize_mask16(end - channel);
    beyond |= _mm512_mask_cmp_ps_mask(used, largest, _mm512_set1_ps(2e9f), _CMP_NLT_UQ);  // NaN counts
  }
  if (q.residual != nullptr) {  // q1 and the residual are bytes
    const float sum = 255.0f * (__builtin_fabsf(q.a_multiplier) + __builtin_fabsf(q.b_multiplier));
    if (!(sum + __builtin_fabsf(q.add_offset) < 2e9f)) return false;
  }
  return beyond == 0;
}

// max(f, lo) and min(., hi) give the bounds for NaN as requantize_clamp does.
[[gnu::always_inline]] static inline __m512 requantize_clamp16(__m512 f, __m512 lo, __m512 hi) {
  return _mm512_min_ps(_mm512_max_ps(f, lo), hi);
}

// What the fast form needs of a Requantize, as local vectors: stores to y cannot force them to be loaded
// again.
struct RequantizeVectors {
  __m512i lowest, highest;  // bounds of the result, bytes
  __m512 lo, hi, a_multiplier, b_multiplier, add_offset;
};

[[gnu::always_inline]] static inline RequantizeVectors requantize_vectors(const Requantize& q) {
  const bool add = q.residual != nullptr;
  RequantizeVectors v;
  v.lowest = _mm512_set1_epi8(static_cast<char>(static_cast<int>(add ? q.add_lo : q.lo)));
  v.highest = _mm512_set1_epi8(static_cast<char>(static_cast<int>(add ? q.add_hi : q.hi)));
  v.lo = _mm512_set1_ps(q.lo);
  v.hi = _mm512_set1_ps(q.hi);
  v.a_multiplier = _mm512_set1_ps(q.a_multiplier);
  v.b_multiplier = _mm512_set1_ps(q.b_multiplier);
  v.add_offset = _mm512_set1_ps(q.add_offset);
  return v;
}

// Fast form: rounded values, to be packed.
[[gnu::always_inline]] static inline __m512i requantize_to_s32(const Requantize& q, __m512i acc,
                                                               int channel) {
  return _mm512_cvtps_epi32(requantize_scale(q, acc, channel));
}

// Fast form with a residual: of scaled values (requantize_scale), and the residuals as dwords or bytes.
[[gnu::always_inline]] static inline __m512i requantize_residual_to_s32(const RequantizeVectors& v,
                                                                        __m512 scaled, __m512i residual) {
  const __m512 f = requantize_clamp16(scaled, v.lo, v.hi);
  const __m512 q1 = _mm512_roundscale_ps(f, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 other = _mm512_fmadd_ps(_mm512_cvtepi32_ps(residual), v.b_multiplier, v.add_offset);
  return _mm512_cvtps_epi32(_mm512_fmadd_ps(q1, v.a_multiplier, other));
}

[[gnu::always_inline]] static inline __m512i requantize_residual_to_s32(const RequantizeVectors& v,
                                                                        __m512 scaled, __m128i bytes) {
  return requantize_residual_to_s32(v, scaled, _mm512_cvtepu8_epi32(bytes));
}

// Fast form: clamped bytes of two vectors of words (_mm512_packs_epi32), in the order of that pack.
[[gnu::always_inline]] static inline __m512i requantize_words(const RequantizeVectors& v, __m512i a,
                                                              __m512i b) {
  return _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(a, b), v.lowest), v.highest);
}

// Packed vectors of 16 in order.
[[gnu::always_inline]] static inline __m512i requantize_order(__m512i bytes) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, bytes);
}

// Fast form: four vectors of 16 -> 64 clamped bytes in order.
[[gnu::always_inline]] static inline __m512i requantize_pack(const RequantizeVectors& v, __m512i a, __m512i b,
                                                             __m512i c, __m512i d) {
  return requantize_order(requantize_words(v, _mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d)));
}

// The same where the bounds of the results are those of a byte, as the packs saturate.
[[gnu::always_inline]] static inline __m512i requantize_pack_whole(__m512i a, __m512i b, __m512i c,
                                                                   __m512i d) {
  return requantize_order(_mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d)));
}

// 64 rounded values within a byte and their residuals, in one order: the sums, saturated to a byte.
[[gnu::always_inline]] static inline __m512i requantize_add_bytes(const RequantizeVectors& v, __m512i own,
                                                                  __m512i residual) {
  const auto lane = [](__m512i bytes, int i) __attribute__((always_inline)) {
    const __m128i quarter = i == 0   ? _mm512_castsi512_si128(bytes)
                            : i == 1 ? _mm512_extracti32x4_epi32(bytes, 1)
                            : i == 2 ? _mm512_extracti32x4_epi32(bytes, 2)
                                     : _mm512_extracti32x4_epi32(bytes, 3);
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(quarter));
  };
  __m512i sum[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512 other = _mm512_fmadd_ps(lane(residual, i), v.b_multiplier, v.add_offset);
    sum[i] = _mm512_cvtps_epi32(_mm512_fmadd_ps(lane(own, i), v.a_multiplier, other));
  }
  return requantize_pack_whole(sum[0], sum[1], sum[2], sum[3]);
}

[[gnu::always_inline]] static inline bool requantize_whole_range(const Requantize& q) {
  return q.residual != nullptr ? q.add_lo <= 0.0f && q.add_hi >= 255.0f : q.lo <= 0.0f && q.hi >= 255.0f;
}

// Any kind of output, 16 channels at a time: the first `channels` of them are stored. y and residual point at
// channel 0 of the pixel. For the cases whose epilogue a kernel does not specialize.
[[gnu::always_inline]] static inline void requantize_store16(const Requantize& q, __m512i acc, int channel,
                                                             int channels, const uint8_t* residual, void* y) {
  const __mmask16 mask = requantize_mask16(channels);
  __m512 f =
      requantize_clamp16(requantize_scale(q, acc, channel), _mm512_set1_ps(q.lo), _mm512_set1_ps(q.hi));
  if (q.f32_output) {
    _mm512_mask_storeu_ps(static_cast<float*>(y) + channel, mask, f);
    return;
  }
  if (residual != nullptr) {
    const __m512 r = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, residual + channel)));
    const __m512 other = _mm512_fmadd_ps(r, _mm512_set1_ps(q.b_multiplier), _mm512_set1_ps(q.add_offset));
    const __m512 q1 = _mm512_roundscale_ps(f, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    f = requantize_clamp16(_mm512_fmadd_ps(q1, _mm512_set1_ps(q.a_multiplier), other),
                           _mm512_set1_ps(q.add_lo), _mm512_set1_ps(q.add_hi));
  }
  _mm512_mask_cvtepi32_storeu_epi8(static_cast<uint8_t*>(y) + channel, mask, _mm512_cvtps_epi32(f));
}

}  // namespace pyruntime
