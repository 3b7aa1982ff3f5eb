// Products of bytes on AMX: TDPBUUD takes both sides unsigned, and the zero points follow from sums
// (x86_avx512_bytes.h),
//
//   sum (a - za)(b - zb) = sum a b  -  zb * sum (a - za)  -  za * sum b
//
// Four row tiles of equal height meet one panel of 16 columns:   C0..C3 += A5 * B4, 64 values of k at a time.
#include "kernels/matmul_int8/x86_avx512_bytes.h"
#include "kernels/x86_amx.h"

namespace pyruntime {
namespace {

constexpr int64_t kTileRows = 16, kRowTiles = 4;

// Values of k that a tile holds.
int64_t chunk(int64_t k2) { return k2 < 64 ? (k2 + 3) / 4 * 4 : 64; }

struct Tiles {
  static int64_t depth(int64_t k2) { return (k2 + chunk(k2) - 1) / chunk(k2) * chunk(k2); }
  static constexpr uint8_t kFlip = 0;
};

void byte_product(int64_t m, int64_t n, int64_t k2, const int16_t* a, const int16_t* b, int32_t* c,
                  ptrdiff_t c_stride) {
  if (!fits(k2)) return matmul_int8__avx2.product(m, n, k2, a, b, c, c_stride);
  if (m <= 0 || n <= 0) return;
  const int64_t tiles = (m + kTileRows - 1) / kTileRows, height = (m + tiles - 1) / tiles;
  const int64_t step = chunk(k2), bytes = Tiles::depth(k2);
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

}  // namespace

extern const MatmulInt8Kernels matmul_int8__amxint8;
const MatmulInt8Kernels matmul_int8__amxint8 = {"matmul_int8__amxint8",
                                                Isa::amxint8,
                                                pack_byte_rows<Tiles>,
                                                pack_byte_columns<Tiles>,
                                                byte_product,
                                                to_f32,
                                                to_u8,
                                                exp_byte_codes<Tiles>};

}  // namespace pyruntime
