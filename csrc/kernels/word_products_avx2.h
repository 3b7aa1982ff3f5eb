// Sums of products of 16-bit words in vectors of 8 sums: VPDPWSSD where the including source is built for
// AVX-VNNI, else VPMADDWD and VPADDD. Exact while no sum leaves 32 bits.
#pragma once

#include <immintrin.h>

namespace pyruntime {

[[gnu::always_inline]] static inline __m256i add_word_products(__m256i sum, __m256i a, __m256i b) {
#ifdef __AVXVNNI__
  return _mm256_dpwssd_avx_epi32(sum, a, b);
#else
  return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
#endif
}

}  // namespace pyruntime
