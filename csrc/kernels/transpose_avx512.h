// Transpositions of dwords in registers.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace pyruntime {

// 16 bytes from each of four places, a 128-bit lane each. Inserts from memory need no shuffle.
[[gnu::always_inline]] static inline __m512i load_lanes(const uint8_t* a, const uint8_t* b, const uint8_t* c,
                                                        const uint8_t* d) {
  __m512i v = _mm512_castsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a)));
  v = _mm512_inserti32x4(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(b)), 1);
  v = _mm512_inserti32x4(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(c)), 2);
  return _mm512_inserti32x4(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(d)), 3);
}

// 4 x 4 within every 128-bit lane: dword j of r[i] becomes dword i of r[j]. 8 shuffles.
[[gnu::always_inline]] static inline void transpose_4x4(__m512i* r) {
  const __m512i a = _mm512_unpacklo_epi32(r[0], r[1]), b = _mm512_unpackhi_epi32(r[0], r[1]);
  const __m512i c = _mm512_unpacklo_epi32(r[2], r[3]), d = _mm512_unpackhi_epi32(r[2], r[3]);
  r[0] = _mm512_unpacklo_epi64(a, c);
  r[1] = _mm512_unpackhi_epi64(a, c);
  r[2] = _mm512_unpacklo_epi64(b, d);
  r[3] = _mm512_unpackhi_epi64(b, d);
}

// 4 x 4 of the 128-bit lanes: lane j of r[i] becomes lane i of r[j]. 8 shuffles.
[[gnu::always_inline]] static inline void transpose_lanes(__m512i* r) {
  const __m512i a = _mm512_shuffle_i32x4(r[0], r[1], 0x44), b = _mm512_shuffle_i32x4(r[0], r[1], 0xee);
  const __m512i c = _mm512_shuffle_i32x4(r[2], r[3], 0x44), d = _mm512_shuffle_i32x4(r[2], r[3], 0xee);
  r[0] = _mm512_shuffle_i32x4(a, c, 0x88);
  r[1] = _mm512_shuffle_i32x4(a, c, 0xdd);
  r[2] = _mm512_shuffle_i32x4(b, d, 0x88);
  r[3] = _mm512_shuffle_i32x4(b, d, 0xdd);
}

// 16 x 16: 64 shuffles.
[[gnu::always_inline]] static inline void transpose_16x16(__m512i* r) {
  __m512i t[16];
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i) {
    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
  // r[4 g + j] holds, in 128-bit lane l, column 4 l + j of rows 4 g .. 4 g + 3.
  for (int j = 0; j < 4; ++j) {
    t[j] = _mm512_shuffle_i32x4(r[j], r[4 + j], 0x88);           // lanes 0, 2 of groups 0, 1
    t[4 + j] = _mm512_shuffle_i32x4(r[j], r[4 + j], 0xdd);       // lanes 1, 3 of groups 0, 1
    t[8 + j] = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0x88);  // groups 2, 3
    t[12 + j] = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0xdd);
  }
  for (int j = 0; j < 4; ++j) {
    r[j] = _mm512_shuffle_i32x4(t[j], t[8 + j], 0x88);            // lane 0
    r[8 + j] = _mm512_shuffle_i32x4(t[j], t[8 + j], 0xdd);        // lane 2
    r[4 + j] = _mm512_shuffle_i32x4(t[4 + j], t[12 + j], 0x88);   // lane 1
    r[12 + j] = _mm512_shuffle_i32x4(t[4 + j], t[12 + j], 0xdd);  // lane 3
  }
}

}  // namespace pyruntime
