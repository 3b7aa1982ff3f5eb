// Products of bytes on AMX: TDPBUUD takes both sides unsigned, and the zero points follow from sums,
//
//   sum (a - za)(b - zb) = sum a b  -  zb * sum (a - za)  -  za * sum b
//
// which stand behind the packed values, as (sum << 8) + zero point. The buffers are those of matmul_int8.h,
// filled in another way, with k padded by zeros to `depth` bytes:
//
//   rows     [m] bytes [depth], sum of a - za
//   columns  [n / 16] bytes [depth / 4][16][4], sum of b [16]
//
// Four row tiles of equal height meet one panel of 16 columns:   C0..C3 += A5 * B4, 64 values of k at a time.
// What is too short for this or too long goes to the row for AVX-512-VNNI.
#include <immintrin.h>

#include "kernels/matmul_int8/matmul_int8_body.h"
#include "kernels/transpose_avx512.h"
#include "kernels/x86_amx.h"

namespace pyruntime {

extern const MatmulInt8Kernels matmul_int8__avx512vnni;

namespace {

constexpr int64_t kTileRows = 16, kRowTiles = 4;

bool fits(int64_t k2) { return k2 >= 4 && k2 <= 32768; }  // room for the sums, sums in 24 bits
// Values of k that a tile holds, and all of them.
int64_t chunk(int64_t k2) { return k2 < 64 ? (k2 + 3) / 4 * 4 : 64; }
int64_t depth(int64_t k2) { return (k2 + chunk(k2) - 1) / chunk(k2) * chunk(k2); }

int32_t joined(int32_t sum, int32_t zero_point) { return sum * 256 + zero_point; }
int32_t sum_of(int32_t term) { return term >> 8; }
int32_t zero_point_of(int32_t term) { return term & 255; }

// Ends a packed row of which k values are written.
void end_row(int64_t k, int64_t k2, int32_t term, uint8_t* row) {
  const int64_t bytes = depth(k2);
  __builtin_memset(row + k, 0, static_cast<size_t>(bytes - k));
  __builtin_memcpy(row + bytes, &term, sizeof(term));
}

void pack_byte_rows(int64_t m, int64_t k, const uint8_t* x, ptrdiff_t row_stride, ptrdiff_t column_stride,
                    int32_t zero_point, int16_t* out) {
  const int64_t k2 = matmul_padded_k(k);
  if (!fits(k2)) return pack_rows(m, k, x, row_stride, column_stride, zero_point, out);
  for (int64_t i = 0; i < m; ++i, x += row_stride, out += k2) {
    uint8_t* row = reinterpret_cast<uint8_t*>(out);
    int32_t sum = 0;
    if (column_stride == 1) {
      __builtin_memcpy(row, x, static_cast<size_t>(k));
    } else {
      for (int64_t c = 0; c < k; ++c) row[c] = x[c * column_stride];
    }
    for (int64_t c = 0; c < k; ++c) sum += row[c];
    end_row(k, k2, joined(sum - static_cast<int32_t>(k) * zero_point, zero_point), row);
  }
}

// 16 columns that lie side by side, four rows of x at a time.
void pack_wide_bytes(int64_t k, const uint8_t* x, ptrdiff_t k_stride, uint8_t* out) {
  for (int64_t c = 0; c < k; c += 4, out += 64) {
    __m128i r[4];
    for (int i = 0; i < 4; ++i) {
      r[i] = c + i < k ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + (c + i) * k_stride))
                       : _mm_setzero_si128();
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
void pack_deep_bytes(int64_t k, const uint8_t* x, ptrdiff_t n_stride, uint8_t* out) {
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

// Any strides; absent columns and values of k are zero.
void pack_any_bytes(int64_t k, int64_t columns, const uint8_t* x, ptrdiff_t k_stride, ptrdiff_t n_stride,
                    uint8_t* out) {
  for (int64_t c = 0; c < (k + 3) / 4 * 4; ++c) {
    for (int64_t j = 0; j < kMatmulPanel; ++j)
      out[c / 4 * 64 + 4 * j + c % 4] = c < k && j < columns ? x[c * k_stride + j * n_stride] : uint8_t{0};
  }
}

void pack_byte_columns(int64_t k, int64_t n, const uint8_t* x, ptrdiff_t k_stride, ptrdiff_t n_stride,
                       int32_t zero_point, int16_t* out) {
  const int64_t k2 = matmul_padded_k(k), bytes = depth(k2) * kMatmulPanel, written = (k + 3) / 4 * 64;
  if (!fits(k2)) return matmul_int8__avx512vnni.pack_columns(k, n, x, k_stride, n_stride, zero_point, out);
  for (int64_t j = 0; j < n; j += kMatmulPanel, out += k2 * kMatmulPanel) {
    const int64_t columns = n - j < kMatmulPanel ? n - j : kMatmulPanel;
    const uint8_t* from = x + j * n_stride;
    uint8_t* panel = reinterpret_cast<uint8_t*>(out);
    if (columns == kMatmulPanel && n_stride == 1)
      pack_wide_bytes(k, from, k_stride, panel);
    else if (columns == kMatmulPanel && k_stride == 1 && k % 16 == 0)
      pack_deep_bytes(k, from, n_stride, panel);
    else
      pack_any_bytes(k, columns, from, k_stride, n_stride, panel);
    __builtin_memset(panel + written, 0, static_cast<size_t>(bytes - written));
    __m512i sum = _mm512_setzero_si512();
    for (int64_t i = 0; i < written; i += 64)
      sum = _mm512_dpbusd_epi32(sum, _mm512_loadu_si512(panel + i), _mm512_set1_epi8(1));
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

void byte_product(int64_t m, int64_t n, int64_t k2, const int16_t* a, const int16_t* b, int32_t* c,
                  ptrdiff_t c_stride) {
  if (!fits(k2)) return matmul_int8__avx512vnni.product(m, n, k2, a, b, c, c_stride);
  if (m <= 0 || n <= 0) return;
  const int64_t tiles = (m + kTileRows - 1) / kTileRows, height = (m + tiles - 1) / tiles;
  const int64_t step = chunk(k2), bytes = depth(k2);
  const ByteRows rows{reinterpret_cast<const uint8_t*>(a), k2 * 2, bytes};
  AmxConfig config;
  for (int tile = 0; tile < 6; ++tile) {
    config.row_bytes[tile] = tile < 5 ? 64 : static_cast<uint16_t>(step);
    config.rows[tile] = static_cast<uint8_t>(tile == 4 ? step / 4 : height);
  }
  PYRUNTIME_AMX_STATE(amx);
  PYRUNTIME_AMX_CONFIGURE(amx, config);
  alignas(64) int32_t scratch[kRowTiles][kTileRows * kMatmulPanel];
  const int32_t row_zero_point = zero_point_of(rows.term(0));
  for (int64_t j = 0; j < n; j += kMatmulPanel, b += k2 * kMatmulPanel, c += kMatmulPanel) {
    const uint8_t* panel = reinterpret_cast<const uint8_t*>(b);
    const __m512i terms = _mm512_loadu_si512(panel + bytes * kMatmulPanel);
    const int32_t zero_point = zero_point_of(_mm512_cvtsi512_si32(terms));
    const __m512i constant =
        _mm512_mullo_epi32(_mm512_srai_epi32(terms, 8), _mm512_set1_epi32(row_zero_point));
    for (int64_t tile = 0; tile < tiles; tile += kRowTiles) {
      // Where tiles overlap, the last one starts early; a missing one repeats it.
      int64_t first[kRowTiles];
      for (int64_t t = 0; t < kRowTiles; ++t)
        first[t] = (tile + t) * height < m - height ? (tile + t) * height : m - height;
      const int64_t count = tiles - tile < kRowTiles ? tiles - tile : kRowTiles;
      PYRUNTIME_AMX_ZERO(amx, 0);
      PYRUNTIME_AMX_ZERO(amx, 1);
      PYRUNTIME_AMX_ZERO(amx, 2);
      PYRUNTIME_AMX_ZERO(amx, 3);
      for (int64_t k = 0; k < bytes; k += step) {
        PYRUNTIME_AMX_LOAD(amx, 4, panel + k * kMatmulPanel, 64);
        PYRUNTIME_AMX_LOAD(amx, 5, rows.row(first[0]) + k, rows.stride);
        PYRUNTIME_AMX_DPBUUD(amx, 0, 5, 4);
        if (count > 1) PYRUNTIME_AMX_LOAD(amx, 5, rows.row(first[1]) + k, rows.stride);
        if (count > 1) PYRUNTIME_AMX_DPBUUD(amx, 1, 5, 4);
        if (count > 2) PYRUNTIME_AMX_LOAD(amx, 5, rows.row(first[2]) + k, rows.stride);
        if (count > 2) PYRUNTIME_AMX_DPBUUD(amx, 2, 5, 4);
        if (count > 3) PYRUNTIME_AMX_LOAD(amx, 5, rows.row(first[3]) + k, rows.stride);
        if (count > 3) PYRUNTIME_AMX_DPBUUD(amx, 3, 5, 4);
      }
      PYRUNTIME_AMX_STORE(amx, 0, scratch[0], 64);
      if (count > 1) PYRUNTIME_AMX_STORE(amx, 1, scratch[1], 64);
      if (count > 2) PYRUNTIME_AMX_STORE(amx, 2, scratch[2], 64);
      if (count > 3) PYRUNTIME_AMX_STORE(amx, 3, scratch[3], 64);
      for (int64_t t = 0; t < count; ++t) {
        for (int64_t i = 0; i < height; ++i) {
          const int32_t of_row = sum_of(rows.term(first[t] + i)) * zero_point;
          const __m512i sums = _mm512_sub_epi32(_mm512_load_si512(scratch[t] + kMatmulPanel * i), constant);
          _mm512_storeu_si512(c + (first[t] + i) * c_stride,
                              _mm512_sub_epi32(sums, _mm512_set1_epi32(of_row)));
        }
      }
    }
  }
  PYRUNTIME_AMX_RELEASE(amx);
}

int32_t exp_byte_codes(int64_t n, const int32_t* acc, float multiplier, const float* mask, float* scores,
                       int16_t* codes) {
  const int64_t k2 = matmul_padded_k(n);
  if (!fits(k2)) return exp_codes(n, acc, multiplier, mask, scores, codes);
  uint8_t* row = reinterpret_cast<uint8_t*>(codes);
  const int32_t sum = write_exp_codes(n, acc, multiplier, mask, scores, row);
  end_row(n, k2, joined(sum, 0), row);
  return sum;
}

}  // namespace

extern const MatmulInt8Kernels matmul_int8__amxint8;
const MatmulInt8Kernels matmul_int8__amxint8 = {
    "matmul_int8__amxint8", Isa::amxint8, pack_byte_rows, pack_byte_columns,
    byte_product,           to_f32,       to_u8,          exp_byte_codes};

}  // namespace pyruntime
