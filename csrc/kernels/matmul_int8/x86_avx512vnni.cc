// Products of bytes by VPDPBUSD, which takes the rows unsigned and the columns signed. With b' = b - 128,
// which is what the packed columns hold (x86_avx512_bytes.h), the zero points follow from sums:
//
//   sum (a - za)(b - zb) = sum a b'  +  (128 - zb) * sum (a - za)  -  za * sum b'
//
// A tile is up to 12 rows of A x 2 panels of 16 columns of B. For four values of k it takes a load of B per
// panel, a broadcast per row, and a VPDPBUSD per row and panel: 24 chains, which cover its latency of 5
// cycles at two a cycle. Sums wrap at 32 bits, which the result fits (matmul_int8.h).
#include "kernels/matmul_int8/x86_avx512_bytes.h"

namespace pyruntime {
namespace {

constexpr int kRows = 12, kPanels = 2;

struct Quads {
  static int64_t depth(int64_t k2) { return (k2 + 3) / 4 * 4; }
  static constexpr uint8_t kFlip = 0x80;
};

// Rows [first, first + kM) by kN panels from `panel` on, which lie `panel_bytes` apart.
template <int kM, int kN>
void tile(const ByteRows& rows, int64_t first, const uint8_t* panel, ptrdiff_t panel_bytes, int32_t* c,
          ptrdiff_t c_stride) {
  __m512i acc[kM][kN], of_columns[kN];
  const __m512i row_zero_point = _mm512_set1_epi32(zero_point_of(rows.term(0)));
  int32_t factor = 0;
#pragma GCC unroll 2
  for (int j = 0; j < kN; ++j) {
    const __m512i terms = _mm512_loadu_si512(panel + j * panel_bytes + rows.bytes * kMatmulPanel);
    of_columns[j] = _mm512_mullo_epi32(_mm512_srai_epi32(terms, 8), row_zero_point);
    factor = 128 - zero_point_of(_mm512_cvtsi512_si32(terms));
  }
#pragma GCC unroll 12
  for (int i = 0; i < kM; ++i) {
    const __m512i of_row = _mm512_set1_epi32(factor * sum_of(rows.term(first + i)));
#pragma GCC unroll 2
    for (int j = 0; j < kN; ++j) acc[i][j] = _mm512_sub_epi32(of_row, of_columns[j]);
  }
  const uint8_t* a = rows.row(first);
  for (int64_t k = 0; k < rows.bytes; k += 4, a += 4, panel += 4 * kMatmulPanel) {
    __m512i columns[kN];
#pragma GCC unroll 2
    for (int j = 0; j < kN; ++j) columns[j] = _mm512_loadu_si512(panel + j * panel_bytes);
#pragma GCC unroll 12
    for (int i = 0; i < kM; ++i) {
      int32_t quad;
      __builtin_memcpy(&quad, a + i * rows.stride, sizeof(quad));
      const __m512i value = _mm512_set1_epi32(quad);
#pragma GCC unroll 2
      for (int j = 0; j < kN; ++j) acc[i][j] = _mm512_dpbusd_epi32(acc[i][j], value, columns[j]);
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < kM; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < kN; ++j) _mm512_storeu_si512(c + i * c_stride + j * kMatmulPanel, acc[i][j]);
  }
}

template <int kN, int kM = kRows>
void some_rows(int64_t count, const ByteRows& rows, int64_t first, const uint8_t* panel,
               ptrdiff_t panel_bytes, int32_t* c, ptrdiff_t c_stride) {
  if (count == kM) return tile<kM, kN>(rows, first, panel, panel_bytes, c, c_stride);
  if constexpr (kM > 1) some_rows<kN, kM - 1>(count, rows, first, panel, panel_bytes, c, c_stride);
}

void product(int64_t m, int64_t n, int64_t k2, const int16_t* a, const int16_t* b, int32_t* c,
             ptrdiff_t c_stride) {
  if (!fits(k2)) return matmul_int8__avx2.product(m, n, k2, a, b, c, c_stride);
  const int64_t tiles = (m + kRows - 1) / kRows, panels = matmul_padded_n(n) / kMatmulPanel;
  const ByteRows rows{reinterpret_cast<const uint8_t*>(a), k2 * 2, Quads::depth(k2)};
  const ptrdiff_t panel_bytes = k2 * 2 * kMatmulPanel;
  const uint8_t* panel = reinterpret_cast<const uint8_t*>(b);
  for (int64_t p = 0; p < panels; p += kPanels, panel += kPanels * panel_bytes, c += kPanels * kMatmulPanel) {
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t first = m * t / tiles, count = m * (t + 1) / tiles - first;  // of nearly equal height
      if (p + 1 < panels)
        some_rows<2>(count, rows, first, panel, panel_bytes, c + first * c_stride, c_stride);
      else
        some_rows<1>(count, rows, first, panel, panel_bytes, c + first * c_stride, c_stride);
    }
  }
}

}  // namespace

extern const MatmulInt8Kernels matmul_int8__avx512vnni;
const MatmulInt8Kernels matmul_int8__avx512vnni = {"matmul_int8__avx512vnni",
                                                   Isa::avx512vnni,
                                                   pack_byte_rows<Quads>,
                                                   pack_byte_columns<Quads>,
                                                   product,
                                                   to_f32,
                                                   to_u8,
                                                   exp_byte_codes<Quads>};

}  // namespace pyruntime
