// Packed matrices of bytes, for rows of matmul_int8 that multiply bytes: AMX takes both sides unsigned,
// VPDPBUSD the columns signed. The zero points follow from sums, which stand behind the packed values, as
// (sum << 8) + zero point. The buffers are those of matmul_int8.h, filled in another way, with k padded by
// zeros to Layout::depth bytes:
//
//   rows     [m] bytes [depth], sum of a - za
//   columns  [n / 16] bytes [depth / 4][16][4], sum of what is stored [16]
//
// Columns are stored exclusive or Layout::kFlip: 0x80 makes b - 128 of b. What is too short or too long for
// this goes to the row for AVX2. Include in AVX-512 sources only.
#pragma once

#include <immintrin.h>

#include "kernels/matmul_int8/exp_codes_avx512.h"
#include "kernels/matmul_int8/matmul_int8_body.h"
#include "kernels/transpose_avx512.h"

namespace pyruntime {

extern const MatmulInt8Kernels matmul_int8__avx2;

namespace {

inline bool fits(int64_t k2) { return k2 >= 4 && k2 <= 32768; }  // room for the sums, sums in 24 bits

inline int32_t joined(int32_t sum, int32_t zero_point) { return sum * 256 + zero_point; }
inline int32_t sum_of(int32_t term) { return term >> 8; }
inline int32_t zero_point_of(int32_t term) { return term & 255; }

// Ends a packed row of which k values are written.
template <typename Layout>
void end_row(int64_t k, int64_t k2, int32_t term, uint8_t* row) {
  const int64_t bytes = Layout::depth(k2);
  __builtin_memset(row + k, 0, static_cast<size_t>(bytes - k));
  __builtin_memcpy(row + bytes, &term, sizeof(term));
}

template <typename Layout>
void pack_byte_rows(int64_t m, int64_t k, const uint8_t* x, ptrdiff_t row_stride, ptrdiff_t column_stride,
                    int32_t zero_point, int16_t* out) {
  const int64_t k2 = matmul_padded_k(k);
  if (!fits(k2)) return matmul_int8__avx2.pack_rows(m, k, x, row_stride, column_stride, zero_point, out);
  for (int64_t i = 0; i < m; ++i, x += row_stride, out += k2) {
    uint8_t* row = reinterpret_cast<uint8_t*>(out);
    int32_t sum = 0;
    if (column_stride == 1) {
      __builtin_memcpy(row, x, static_cast<size_t>(k));
    } else {
      for (int64_t c = 0; c < k; ++c) row[c] = x[c * column_stride];
    }
    for (int64_t c = 0; c < k; ++c) sum += row[c];
    end_row<Layout>(k, k2, joined(sum - static_cast<int32_t>(k) * zero_point, zero_point), row);
  }
}

// 16 columns that lie side by side, four rows of x at a time.
inline void pack_wide_bytes(int64_t k, const uint8_t* x, ptrdiff_t k_stride, uint8_t absent, uint8_t* out) {
  for (int64_t c = 0; c < k; c += 4, out += 64) {
    __m128i r[4];
    for (int i = 0; i < 4; ++i) {
      r[i] = c + i < k ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + (c + i) * k_stride))
                       : _mm_set1_epi8(static_cast<char>(absent));
    }
    const __m128i low01 = _mm_unpacklo_epi8(r[0], r[1]), high01 = _mm_unpackhi_epi8(r[0], r[1]);
    const __m128i low23 = _mm_unpacklo_epi8(r[2], r[3]), high23 = _mm_unpackhi_epi8(r[2], r[3]);
    __m128i* to = reinterpret_cast<__m128i*>(out);
    _mm_storeu_si128(to, _mm_unpacklo_epi16(low01, low23));
    _mm_storeu_si128(to + 1, _mm_unpackhi_epi16(low01, low23));
    _mm_storeu_si128(to + 2, _mm_unpacklo_epi16(high01, high23));
    _mm_storeu_si128(to + 3, _mm_unpackhi_epi16(high01, high23));
  }
}

// 16 columns of which each is a run of k bytes, k a multiple of 16.
inline void pack_deep_bytes(int64_t k, const uint8_t* x, ptrdiff_t n_stride, uint8_t* out) {
  for (int64_t c = 0; c < k; c += 16, out += 256) {
    __m512i r[4];
    for (int j = 0; j < 4; ++j) {
      const uint8_t* from = x + j * n_stride + c;
      r[j] = load_lanes(from, from + 4 * n_stride, from + 8 * n_stride, from + 12 * n_stride);
    }
    transpose_4x4(r);
    for (int j = 0; j < 4; ++j) _mm512_storeu_si512(out + 64 * j, r[j]);
  }
}

// Any strides.
inline void pack_any_bytes(int64_t k, int64_t columns, const uint8_t* x, ptrdiff_t k_stride,
                           ptrdiff_t n_stride, uint8_t absent, uint8_t* out) {
  for (int64_t c = 0; c < (k + 3) / 4 * 4; ++c) {
    for (int64_t j = 0; j < kMatmulPanel; ++j)
      out[c / 4 * 64 + 4 * j + c % 4] = c < k && j < columns ? x[c * k_stride + j * n_stride] : absent;
  }
}

template <typename Layout>
void pack_byte_columns(int64_t k, int64_t n, const uint8_t* x, ptrdiff_t k_stride, ptrdiff_t n_stride,
                       int32_t zero_point, int16_t* out) {
  const int64_t k2 = matmul_padded_k(k);
  if (!fits(k2)) return matmul_int8__avx2.pack_columns(k, n, x, k_stride, n_stride, zero_point, out);
  const int64_t bytes = Layout::depth(k2) * kMatmulPanel, written = (k + 3) / 4 * 64;
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(Layout::kFlip)), ones = _mm512_set1_epi8(1);
  for (int64_t j = 0; j < n; j += kMatmulPanel, out += k2 * kMatmulPanel) {
    const int64_t columns = n - j < kMatmulPanel ? n - j : kMatmulPanel;
    const uint8_t* from = x + j * n_stride;
    uint8_t* panel = reinterpret_cast<uint8_t*>(out);
    if (columns == kMatmulPanel && n_stride == 1)
      pack_wide_bytes(k, from, k_stride, Layout::kFlip, panel);
    else if (columns == kMatmulPanel && k_stride == 1 && k % 16 == 0)
      pack_deep_bytes(k, from, n_stride, panel);
    else
      pack_any_bytes(k, columns, from, k_stride, n_stride, Layout::kFlip, panel);
    __builtin_memset(panel + written, 0, static_cast<size_t>(bytes - written));
    __m512i sum = _mm512_setzero_si512();
    for (int64_t i = 0; i < written; i += 64) {
      const __m512i stored = _mm512_xor_si512(_mm512_loadu_si512(panel + i), flip);
      if (Layout::kFlip != 0) {
        _mm512_storeu_si512(panel + i, stored);
        sum = _mm512_dpbusd_epi32(sum, ones, stored);
      } else {
        sum = _mm512_dpbusd_epi32(sum, stored, ones);
      }
    }
    const __m512i terms = _mm512_add_epi32(_mm512_slli_epi32(sum, 8), _mm512_set1_epi32(zero_point));
    _mm512_storeu_si512(panel + bytes, terms);
  }
}

// One matrix of rows and the sums behind them.
struct ByteRows {
  const uint8_t* first;
  ptrdiff_t stride;
  int64_t bytes;

  const uint8_t* row(int64_t i) const { return first + i * stride; }
  int32_t term(int64_t i) const {
    int32_t term;
    __builtin_memcpy(&term, row(i) + bytes, sizeof(term));
    return term;
  }
};

template <typename Layout>
void exp_byte_codes(const ExpCodes& rows) {
  const int64_t n = rows.n, k2 = matmul_padded_k(n);
  if (!fits(k2)) return matmul_int8__avx2.exp_codes(rows);
  constexpr int64_t kBlock = 16;  // rows
  float largest[kBlock];
  for (int64_t first = 0; first < rows.m; first += kBlock) {
    const int64_t end = first + kBlock < rows.m ? first + kBlock : rows.m;
    for (int64_t i = first; i < end; ++i) {
      int32_t* acc = rows.acc + i * rows.acc_stride;
      largest[i - first] = rows.mask == nullptr ? write_scores<false>(n, acc, nullptr, rows.multiplier)
                                                : write_scores<true>(n, acc, rows.mask + i * rows.mask_stride,
                                                                     rows.multiplier);
    }
    for (int64_t i = first; i < end; ++i) {
      uint8_t* row = reinterpret_cast<uint8_t*>(rows.codes + i * k2);
      const float* scores = reinterpret_cast<const float*>(rows.acc + i * rows.acc_stride);
      rows.sums[i] = write_codes(n, scores, largest[i - first], row);
      end_row<Layout>(n, k2, joined(rows.sums[i], 0), row);
    }
  }
}

}  // namespace
}  // namespace pyruntime
