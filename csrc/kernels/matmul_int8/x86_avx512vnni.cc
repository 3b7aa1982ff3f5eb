// A tile is up to 12 rows of A x 2 panels of 16 columns of B. For two values of k it takes a load of B per
// panel, a broadcast per row, and a VPDPWSSD per row and panel: 24 chains, which cover its latency of 5
// cycles at two a cycle. VPDPWSSD does not saturate, and the sums fit 32 bits (matmul_int8.h).
#include <immintrin.h>

#include "kernels/matmul_int8/matmul_int8_body.h"
#include "kernels/transpose_avx512.h"

namespace pyruntime {
namespace {

constexpr int kRows = 12, kPanels = 2;

template <int kM, int kN>
void tile(int64_t k2, const int16_t* a, const int16_t* b, int32_t* c, ptrdiff_t c_stride) {
  __m512i acc[kM][kN];
#pragma GCC unroll 12
  for (int i = 0; i < kM; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < kN; ++j) acc[i][j] = _mm512_setzero_si512();
  }
  const ptrdiff_t panel = k2 * kMatmulPanel;
  for (int64_t k = 0; k < k2; k += 2, b += 2 * kMatmulPanel) {
    __m512i columns[kN];
#pragma GCC unroll 2
    for (int j = 0; j < kN; ++j) columns[j] = _mm512_loadu_si512(b + j * panel);
#pragma GCC unroll 12
    for (int i = 0; i < kM; ++i) {
      int32_t pair;
      __builtin_memcpy(&pair, a + i * k2 + k, sizeof(pair));
      const __m512i value = _mm512_set1_epi32(pair);
#pragma GCC unroll 2
      for (int j = 0; j < kN; ++j) acc[i][j] = _mm512_dpwssd_epi32(acc[i][j], value, columns[j]);
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < kM; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < kN; ++j) _mm512_storeu_si512(c + i * c_stride + j * kMatmulPanel, acc[i][j]);
  }
}

template <int kN, int kM = kRows>
void some_rows(int64_t rows, int64_t k2, const int16_t* a, const int16_t* b, int32_t* c, ptrdiff_t c_stride) {
  if (rows == kM) return tile<kM, kN>(k2, a, b, c, c_stride);
  if constexpr (kM > 1) some_rows<kN, kM - 1>(rows, k2, a, b, c, c_stride);
}

void product(int64_t m, int64_t n, int64_t k2, const int16_t* a, const int16_t* b, int32_t* c,
             ptrdiff_t c_stride) {
  const int64_t tiles = (m + kRows - 1) / kRows, panels = matmul_padded_n(n) / kMatmulPanel;
  for (int64_t p = 0; p < panels;
       p += kPanels, b += kPanels * k2 * kMatmulPanel, c += kPanels * kMatmulPanel) {
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t first = m * t / tiles, rows = m * (t + 1) / tiles - first;  // of nearly equal height
      if (p + 1 < panels)
        some_rows<2>(rows, k2, a + first * k2, b, c + first * c_stride, c_stride);
      else
        some_rows<1>(rows, k2, a + first * k2, b, c + first * c_stride, c_stride);
    }
  }
}

// 16 columns that lie side by side: two rows of x are interleaved.
void pack_wide_panel(int64_t k, const uint8_t* x, ptrdiff_t k_stride, __m512i zero_point, int16_t* out) {
  const __m128i nothing = _mm512_castsi512_si128(_mm512_packus_epi16(zero_point, zero_point));
  for (int64_t c = 0; c < k; c += 2, out += 2 * kMatmulPanel) {
    const uint8_t* row = x + c * k_stride;
    const __m128i even = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row));
    const __m128i odd =
        c + 1 < k ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + k_stride)) : nothing;
    const __m256i pairs = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_unpacklo_epi8(even, odd)),
                                                  _mm_unpackhi_epi8(even, odd), 1);
    _mm512_storeu_si512(out, _mm512_sub_epi16(_mm512_cvtepu8_epi16(pairs), zero_point));
  }
}

// 16 columns of which each is a run of k bytes, k a multiple of 16: dwords of 4 columns are transposed within
// 128-bit lanes, each holds two pairs of k.
void pack_deep_panel(int64_t k, const uint8_t* x, ptrdiff_t n_stride, __m512i zero_point, int16_t* out) {
  const __m512i first = _mm512_set4_epi32(0x800d800c, 0x80098008, 0x80058004, 0x80018000);
  const __m512i second = _mm512_set4_epi32(0x800f800e, 0x800b800a, 0x80078006, 0x80038002);
  for (int64_t c = 0; c < k; c += 16) {
    __m512i r[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const uint8_t* from = x + j * n_stride + c;
      r[j] = load_lanes(from, from + 4 * n_stride, from + 8 * n_stride, from + 12 * n_stride);
    }
    transpose_4x4(r);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j, out += 4 * kMatmulPanel) {
      _mm512_storeu_si512(out, _mm512_sub_epi16(_mm512_shuffle_epi8(r[j], first), zero_point));
      _mm512_storeu_si512(out + 2 * kMatmulPanel,
                          _mm512_sub_epi16(_mm512_shuffle_epi8(r[j], second), zero_point));
    }
  }
}

void pack_columns(int64_t k, int64_t n, const uint8_t* x, ptrdiff_t k_stride, ptrdiff_t n_stride,
                  int32_t zero_point, int16_t* out) {
  const __m512i zero = _mm512_set1_epi16(static_cast<int16_t>(zero_point));
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

extern const MatmulInt8Kernels matmul_int8__avx512vnni;
const MatmulInt8Kernels matmul_int8__avx512vnni = {
    "matmul_int8__avx512vnni", Isa::avx512vnni, pack_rows, pack_columns, product, to_f32, to_u8, exp_codes};

}  // namespace pyruntime
