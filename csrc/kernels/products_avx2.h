// What products in vectors of 8 sums share on AVX2 and AVX-VNNI. Include in AVX2 sources only.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace pyruntime {

// The 4 bytes at x in every dword.
[[gnu::always_inline]] static inline __m256i broadcast4(const void* x) {
  int32_t value;
  __builtin_memcpy(&value, x, sizeof(value));
  return _mm256_set1_epi32(value);
}

// Adds to every sum the products of two 16-bit words: VPDPWSSD where the including source is built for
// AVX-VNNI, else VPMADDWD and VPADDD. Exact while no sum leaves 32 bits.
[[gnu::always_inline]] static inline __m256i add_word_products(__m256i sum, __m256i a, __m256i b) {
#ifdef __AVXVNNI__
  return _mm256_dpwssd_avx_epi32(sum, a, b);
#else
  return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
#endif
}

}  // namespace pyruntime
