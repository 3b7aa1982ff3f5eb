// Four rows at a time: the 16 partial sums of a row are one vector, whose additions wait 4 cycles each for
// the one before.
#include <immintrin.h>

#include "kernels/layer_norm/layer_norm.h"

namespace pyruntime {
namespace {

constexpr size_t kLanes = 16, kRows = 4;

// The four sums of the partial sums of four rows.
inline __m128 joined(const __m512* part) {
  __m128 quarter[kRows];
  for (size_t r = 0; r < kRows; ++r) {
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(part[r]), _mm512_extractf32x8_ps(part[r], 1));
    quarter[r] = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  }
  _MM_TRANSPOSE4_PS(quarter[0], quarter[1], quarter[2], quarter[3]);
  return _mm_add_ps(_mm_add_ps(quarter[0], quarter[2]), _mm_add_ps(quarter[1], quarter[3]));
}

template <size_t R>
void run_rows(size_t n, const float* x, const float* scale, const float* bias, float epsilon, float* y) {
  const size_t whole = n / kLanes * kLanes;
  const __mmask16 rest = static_cast<__mmask16>((1u << (n - whole)) - 1u);
  const __m128 count = _mm_set1_ps(static_cast<float>(n));
  __m512 part[kRows], mean[R], inverse[R];
  for (size_t r = 0; r < kRows; ++r) part[r] = _mm512_setzero_ps();
  for (size_t i = 0; i < whole; i += kLanes)
    for (size_t r = 0; r < R; ++r) part[r] = _mm512_add_ps(part[r], _mm512_loadu_ps(x + r * n + i));
  for (size_t r = 0; r < R; ++r)
    part[r] = _mm512_mask_add_ps(part[r], rest, part[r], _mm512_maskz_loadu_ps(rest, x + r * n + whole));
  alignas(16) float of_row[kRows];
  _mm_store_ps(of_row, _mm_div_ps(joined(part), count));
  for (size_t r = 0; r < R; ++r) mean[r] = _mm512_set1_ps(of_row[r]);

  for (size_t r = 0; r < R; ++r) part[r] = _mm512_setzero_ps();
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t r = 0; r < R; ++r) {
      const __m512 d = _mm512_sub_ps(_mm512_loadu_ps(x + r * n + i), mean[r]);
      part[r] = _mm512_fmadd_ps(d, d, part[r]);
    }
  }
  for (size_t r = 0; r < R; ++r) {
    const __m512 d = _mm512_sub_ps(_mm512_maskz_loadu_ps(rest, x + r * n + whole), mean[r]);
    part[r] = _mm512_mask3_fmadd_ps(d, d, part[r], rest);
  }
  const __m128 variance = _mm_add_ps(_mm_div_ps(joined(part), count), _mm_set1_ps(epsilon));
  _mm_store_ps(of_row, _mm_div_ps(_mm_set1_ps(1.0f), _mm_sqrt_ps(variance)));
  for (size_t r = 0; r < R; ++r) inverse[r] = _mm512_set1_ps(of_row[r]);

  for (size_t i = 0; i < n; i += kLanes) {
    const __mmask16 lanes = i < whole ? static_cast<__mmask16>(0xffff) : rest;
    const __m512 factor = _mm512_maskz_loadu_ps(lanes, scale + i);
    const __m512 offset = _mm512_maskz_loadu_ps(lanes, bias + i);
    for (size_t r = 0; r < R; ++r) {
      const __m512 d = _mm512_sub_ps(_mm512_maskz_loadu_ps(lanes, x + r * n + i), mean[r]);
      _mm512_mask_storeu_ps(y + r * n + i, lanes,
                            _mm512_fmadd_ps(_mm512_mul_ps(d, inverse[r]), factor, offset));
    }
  }
}

void run(size_t rows, size_t n, const float* x, const float* scale, const float* bias, float epsilon,
         float* y) {
  size_t row = 0;
  for (; row + kRows <= rows; row += kRows)
    run_rows<kRows>(n, x + row * n, scale, bias, epsilon, y + row * n);
  for (; row < rows; ++row) run_rows<1>(n, x + row * n, scale, bias, epsilon, y + row * n);
}

}  // namespace

extern const LayerNormKernel layer_norm__avx512vnni;
const LayerNormKernel layer_norm__avx512vnni = {"layer_norm__avx512vnni", Isa::avx512vnni, run};

}  // namespace pyruntime
