// exp_codes of matmul_int8 on vectors of 16 scores, in two passes over a block of rows: scores and their
// maxima, then codes. In one pass the exponentials of a row wait for its maximum. The operations are those of
// exp_nonpositive_f32 (elementwise/float_math.h), one after the other for several vectors at a time, since
// each waits 4 cycles for the one before.
#pragma once

#include <immintrin.h>

#include "kernels/matmul_int8/matmul_int8_body.h"
#include "kernels/requantize_avx512.h"

namespace pyruntime {
namespace {

// 16 scores take the place of their accumulators; `maximum` takes those in `lanes`, but for NaN.
template <bool kMask>
[[gnu::always_inline]] inline void write_score_vector(int32_t* acc, const float* mask, __m512 multiplier,
                                                      __mmask16 lanes, __m512* maximum) {
  __m512 score = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_loadu_si512(acc)), multiplier);
  if (kMask) score = _mm512_add_ps(score, _mm512_maskz_loadu_ps(lanes, mask));
  _mm512_storeu_ps(acc, score);
  *maximum = _mm512_mask_max_ps(*maximum, lanes, score, *maximum);
}

// A row; returns its largest score.
template <bool kMask>
float write_scores(int64_t n, int32_t* acc, const float* mask, float multiplier) {
  const __m512 factor = _mm512_set1_ps(multiplier);
  __m512 maximum[2] = {_mm512_set1_ps(-__builtin_inff()), _mm512_set1_ps(-__builtin_inff())};
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    write_score_vector<kMask>(acc + i, mask + i, factor, 0xffff, &maximum[0]);
    write_score_vector<kMask>(acc + i + 16, mask + i + 16, factor, 0xffff, &maximum[1]);
  }
  for (; i < n; i += 16)
    write_score_vector<kMask>(acc + i, mask + i, factor, requantize_mask16(static_cast<int>(n - i)),
                              &maximum[0]);
  return _mm512_reduce_max_ps(_mm512_max_ps(maximum[0], maximum[1]));
}

// Codes of kN vectors, their last one cut to `lanes`; adds what stands for them in floats, kRoundBits
// included, to `sum`.
template <int kN>
[[gnu::always_inline]] inline __m512i write_code_vectors(const float* scores, __m512 maximum, __mmask16 lanes,
                                                         __m512i sum, uint8_t* codes) {
  const __m512 round = _mm512_set1_ps(kRound), one = _mm512_set1_ps(1.0f);
  __m512 r[kN], shifted[kN], p[kN];
  const auto each = [](auto&& step) __attribute__((always_inline)) {
#pragma GCC unroll 8
    for (int v = 0; v < kN; ++v) step(v);
  };
  each([&](int v) { r[v] = _mm512_sub_ps(_mm512_loadu_ps(scores + 16 * v), maximum); });
  each([&](int v) { r[v] = _mm512_max_ps(r[v], _mm512_set1_ps(kLeastSoftmax)); });  // and NaN
  each([&](int v) { shifted[v] = _mm512_fmadd_ps(r[v], _mm512_set1_ps(kLog2e), round); });
  each([&](int v) { p[v] = _mm512_sub_ps(shifted[v], round); });
  each([&](int v) { r[v] = _mm512_fmadd_ps(p[v], _mm512_set1_ps(kMinusLn2), r[v]); });
  each([&](int v) { r[v] = _mm512_fmadd_ps(p[v], _mm512_set1_ps(kMinusLn2Rest), r[v]); });
  each([&](int v) { p[v] = _mm512_set1_ps(kExp[0]); });
  each([&](int v) { p[v] = _mm512_fmadd_ps(p[v], r[v], _mm512_set1_ps(kExp[1])); });
  each([&](int v) { p[v] = _mm512_fmadd_ps(p[v], r[v], _mm512_set1_ps(kExp[2])); });
  each([&](int v) { p[v] = _mm512_fmadd_ps(p[v], r[v], _mm512_set1_ps(kExp[3])); });
  each([&](int v) { p[v] = _mm512_fmadd_ps(p[v], r[v], _mm512_set1_ps(kExp[4])); });
  each([&](int v) { p[v] = _mm512_add_ps(_mm512_fmadd_ps(p[v], _mm512_mul_ps(r[v], r[v]), r[v]), one); });
  each([&](int v) {
    const __m512i power = _mm512_slli_epi32(_mm512_castps_si512(shifted[v]), 23);
    p[v] = _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p[v]), power));
  });
  each([&](int v) { p[v] = _mm512_add_ps(_mm512_mul_ps(p[v], _mm512_set1_ps(255.0f)), round); });
  each([&](int v) {
    const __m512i bits = _mm512_castps_si512(p[v]);
    const __mmask16 used = v == kN - 1 ? lanes : static_cast<__mmask16>(0xffff);
    sum = _mm512_mask_add_epi32(sum, used, sum, bits);
    _mm_mask_storeu_epi8(codes + 16 * v, used, _mm512_cvtepi32_epi8(bits));
  });
  return sum;
}

// A row of n codes from its scores and the largest of them; returns the sum of the codes.
inline int32_t write_codes(int64_t n, const float* scores, float largest, uint8_t* codes) {
  const __m512 maximum = _mm512_set1_ps(largest);
  __m512i sum = _mm512_setzero_si512();
  int64_t i = 0;
  for (; i + 128 <= n; i += 128) sum = write_code_vectors<8>(scores + i, maximum, 0xffff, sum, codes + i);
  for (; i + 32 <= n; i += 32) sum = write_code_vectors<2>(scores + i, maximum, 0xffff, sum, codes + i);
  for (; i < n; i += 16)
    sum = write_code_vectors<1>(scores + i, maximum, requantize_mask16(static_cast<int>(n - i)), sum,
                                codes + i);
  const uint32_t bits = static_cast<uint32_t>(_mm512_reduce_add_epi32(sum));
  return static_cast<int32_t>(bits - static_cast<uint32_t>(n) * kRoundBits);
}

}  // namespace
}  // namespace pyruntime
