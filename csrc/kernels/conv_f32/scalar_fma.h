// acc[i] = fma(x[i], w[i], acc[i]) for the scalar rows. Where the baseline has no fused multiply-add
// (x86-64), a call into the C library for each product would cost ten times the arithmetic, so four are done
// in float64: the product is exact, and rounding the sum s to float32 is right unless
//  - s lies half way between two float32 (its low 29 bits are 1 and 28 zeros): its own rounding may have put
//  it there;
//  - 0 < |s| < 2^-126, where float32 has fewer bits or is flushed to zero.
// These rare cases are left to the C library. SSE2 belongs to the baseline of x86-64.
#pragma once

#include <cstdint>

#if defined(__SSE2__) && !defined(__FP_FAST_FMAF)
#include <emmintrin.h>
#define PYRUNTIME_FMA_IN_DOUBLE 1
#endif

namespace pyruntime {
namespace {

#if defined(PYRUNTIME_FMA_IN_DOUBLE)
// Negative lanes mark sums for the C library.
inline __m128i needs_library(__m128d s) {
  const __m128i bits = _mm_castpd_si128(s), one = _mm_set1_epi64x(1);
  const __m128i low = _mm_and_si128(bits, _mm_set1_epi64x(0x1FFFFFFF));
  const __m128i half_way = _mm_sub_epi64(_mm_xor_si128(low, _mm_set1_epi64x(0x10000000)), one);
  const __m128i magnitude = _mm_and_si128(bits, _mm_set1_epi64x(INT64_MAX));
  const __m128i below_normal = _mm_sub_epi64(magnitude, _mm_set1_epi64x(0x3810000000000000));  // 2^-126
  return _mm_or_si128(half_way, _mm_andnot_si128(_mm_sub_epi64(magnitude, one), below_normal));
}

inline __m128d fma_in_double(__m128 x, __m128 w, __m128 acc) {
  return _mm_add_pd(_mm_mul_pd(_mm_cvtps_pd(x), _mm_cvtps_pd(w)), _mm_cvtps_pd(acc));
}

inline void fma_four(__m128 x, const float* w, float* acc) {
  const __m128 weight = _mm_loadu_ps(w), before = _mm_loadu_ps(acc);
  const __m128d low = fma_in_double(x, weight, before);
  const __m128d high =
      fma_in_double(_mm_movehl_ps(x, x), _mm_movehl_ps(weight, weight), _mm_movehl_ps(before, before));
  const __m128i library = _mm_or_si128(needs_library(low), needs_library(high));
  if (__builtin_expect(_mm_movemask_pd(_mm_castsi128_pd(library)) != 0, 0)) {
    float value[4];
    _mm_storeu_ps(value, x);
    for (int i = 0; i < 4; ++i) acc[i] = __builtin_fmaf(value[i], w[i], acc[i]);
    return;
  }
  _mm_storeu_ps(acc, _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high)));
}
#endif

// One x for all i; count is a multiple of 4.
inline void fma_same(float x, const float* w, float* acc, int count) {
#if defined(PYRUNTIME_FMA_IN_DOUBLE)
  const __m128 value = _mm_set1_ps(x);
  for (int i = 0; i < count; i += 4) fma_four(value, w + i, acc + i);
#else
  for (int i = 0; i < count; ++i) acc[i] = __builtin_fmaf(x, w[i], acc[i]);
#endif
}

inline void fma_each(const float* x, const float* w, float* acc, int count) {
  int i = 0;
#if defined(PYRUNTIME_FMA_IN_DOUBLE)
  for (; i + 4 <= count; i += 4) fma_four(_mm_loadu_ps(x + i), w + i, acc + i);
#endif
  for (; i < count; ++i) acc[i] = __builtin_fmaf(x[i], w[i], acc[i]);
}

}  // namespace
}  // namespace pyruntime
