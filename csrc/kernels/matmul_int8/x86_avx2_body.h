// matmul_int8 in vectors of 8 sums, on AVX2 and AVX-VNNI. A tile is up to 6 rows of A x one panel of 16
// columns of B: 12 accumulators. For two values of k it takes two loads of B, and a broadcast and two
// products of words a row.
#pragma once

#include <immintrin.h>

#include "kernels/matmul_int8/matmul_int8_words.h"
#include "kernels/products_avx2.h"

namespace pyruntime {
namespace {

constexpr int kRows = 6;

template <int kM>
void tile(int64_t k2, const int16_t* a, const int16_t* b, int32_t* c, ptrdiff_t c_stride) {
  __m256i acc[kM][2];
  for (int i = 0; i < kM; ++i) acc[i][0] = acc[i][1] = _mm256_setzero_si256();
  for (int64_t k = 0; k < k2; k += 2, b += 2 * kMatmulPanel) {
    const __m256i b0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b));
    const __m256i b1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + kMatmulPanel));
    for (int i = 0; i < kM; ++i) {
      const __m256i value = broadcast4(a + i * k2 + k);
      acc[i][0] = add_word_products(acc[i][0], value, b0);
      acc[i][1] = add_word_products(acc[i][1], value, b1);
    }
  }
  for (int i = 0; i < kM; ++i) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(c + i * c_stride), acc[i][0]);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(c + i * c_stride + 8), acc[i][1]);
  }
}

template <int kM = kRows>
void some_rows(int64_t rows, int64_t k2, const int16_t* a, const int16_t* b, int32_t* c, ptrdiff_t c_stride) {
  if (rows == kM) return tile<kM>(k2, a, b, c, c_stride);
  if constexpr (kM > 1) some_rows<kM - 1>(rows, k2, a, b, c, c_stride);
}

void product(int64_t m, int64_t n, int64_t k2, const int16_t* a, const int16_t* b, int32_t* c,
             ptrdiff_t c_stride) {
  for (int64_t j = 0; j < n; j += kMatmulPanel, b += k2 * kMatmulPanel) {
    for (int64_t i = 0; i < m; i += kRows)
      some_rows(m - i < kRows ? m - i : kRows, k2, a + i * k2, b, c + i * c_stride + j, c_stride);
  }
}

inline __m256i centred(__m128i bytes, __m256i zero_point) {
  return _mm256_sub_epi16(_mm256_cvtepu8_epi16(bytes), zero_point);
}

// 16 columns that lie side by side: two rows of x are interleaved.
void pack_wide_panel(int64_t k, const uint8_t* x, ptrdiff_t k_stride, __m256i zero_point, int16_t* out) {
  for (int64_t c = 0; c < k; c += 2, out += 2 * kMatmulPanel) {
    const uint8_t* row = x + c * k_stride;
    const __m256i even = centred(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row)), zero_point);
    const __m256i odd =
        c + 1 < k ? centred(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + k_stride)), zero_point)
                  : _mm256_setzero_si256();
    const __m256i low = _mm256_unpacklo_epi16(even, odd), high = _mm256_unpackhi_epi16(even, odd);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_permute2x128_si256(low, high, 0x20));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + kMatmulPanel),
                        _mm256_permute2x128_si256(low, high, 0x31));
  }
}

// 16 columns of which each is a run of k bytes: 8 pairs of k at a time, an 8x8 transposition of pairs.
void pack_deep_panel(int64_t k, const uint8_t* x, ptrdiff_t n_stride, __m256i zero_point, int16_t* out) {
  for (int64_t c = 0; c < k; c += 16) {
    for (int half = 0; half < 2; ++half) {
      __m256i r[8], t[8];
      for (int j = 0; j < 8; ++j) {
        const uint8_t* from = x + (8 * half + j) * n_stride + c;
        r[j] = centred(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)), zero_point);
      }
      for (int j = 0; j < 8; j += 2) {
        t[j] = _mm256_unpacklo_epi32(r[j], r[j + 1]);
        t[j + 1] = _mm256_unpackhi_epi32(r[j], r[j + 1]);
      }
      for (int j = 0; j < 8; j += 4) {
        r[j] = _mm256_unpacklo_epi64(t[j], t[j + 2]);
        r[j + 1] = _mm256_unpackhi_epi64(t[j], t[j + 2]);
        r[j + 2] = _mm256_unpacklo_epi64(t[j + 1], t[j + 3]);
        r[j + 3] = _mm256_unpackhi_epi64(t[j + 1], t[j + 3]);
      }
      int16_t* to = out + (c / 2) * 2 * kMatmulPanel + half * kMatmulPanel;
      for (int p = 0; p < 4; ++p) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + p * 2 * kMatmulPanel),
                            _mm256_permute2x128_si256(r[p], r[p + 4], 0x20));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + (p + 4) * 2 * kMatmulPanel),
                            _mm256_permute2x128_si256(r[p], r[p + 4], 0x31));
      }
    }
  }
}

void pack_columns(int64_t k, int64_t n, const uint8_t* x, ptrdiff_t k_stride, ptrdiff_t n_stride,
                  int32_t zero_point, int16_t* out) {
  const __m256i zero = _mm256_set1_epi16(static_cast<int16_t>(zero_point));
  for (int64_t j = 0; j < n; j += kMatmulPanel, out += matmul_padded_k(k) * kMatmulPanel) {
    const int64_t columns = n - j < kMatmulPanel ? n - j : kMatmulPanel;
    const uint8_t* from = x + j * n_stride;
    if (columns == kMatmulPanel && n_stride == 1)
      pack_wide_panel(k, from, k_stride, zero, out);
    else if (columns == kMatmulPanel && k_stride == 1 && k % 16 == 0)
      pack_deep_panel(k, from, n_stride, zero, out);
    else
      pack_panel(k, columns, from, k_stride, n_stride, zero_point, out);
  }
}

}  // namespace

}  // namespace pyruntime
