#include "runtime/weight_counts.h"

#include <algorithm>
#include <cstdlib>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace pyruntime {
namespace {

void add_block(const int8_t* w, int64_t count, WeightCounts* counts) {
  int64_t nonzero = 0;
  for (int64_t i = 0; i < count; ++i) {
    counts->sum += w[i];
    counts->magnitude += std::abs(static_cast<int>(w[i]));
    nonzero += w[i] != 0;
  }
  counts->nonzero += nonzero;
  counts->blocks += nonzero > 0;
}

#if defined(__SSE2__)
int64_t total_64(__m128i v) { return _mm_cvtsi128_si64(_mm_add_epi64(v, _mm_unpackhi_epi64(v, v))); }

// Whole vectors of 16; returns how many weights these are. Part of every x86-64, so it needs no kernel of its
// own, and compilers do not find the sums of absolute differences.
int64_t add_vectors(const int8_t* w, int64_t count, WeightCounts* counts) {
  const __m128i zero = _mm_setzero_si128(), offset = _mm_set1_epi8(-128);
  const int64_t vectors = count / 16;
  __m128i sum = zero, magnitude = zero, zeros = zero, zero_blocks = zero;
  for (int64_t i = 0; i < vectors; ++i) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(w + 16 * i));
    const __m128i sign = _mm_cmpgt_epi8(zero, v), is_zero = _mm_cmpeq_epi8(v, zero);
    sum = _mm_add_epi64(sum, _mm_sad_epu8(_mm_xor_si128(v, offset), zero));
    magnitude = _mm_add_epi64(magnitude, _mm_sad_epu8(_mm_sub_epi8(_mm_xor_si128(v, sign), sign), zero));
    zeros = _mm_add_epi64(zeros, _mm_sad_epu8(_mm_sub_epi8(zero, is_zero), zero));
    zero_blocks = _mm_sub_epi32(zero_blocks, _mm_cmpeq_epi32(v, zero));
  }
  zero_blocks = _mm_add_epi64(_mm_unpacklo_epi32(zero_blocks, zero), _mm_unpackhi_epi32(zero_blocks, zero));
  counts->sum += total_64(sum) - 128 * 16 * vectors;
  counts->magnitude += total_64(magnitude);
  counts->nonzero += 16 * vectors - total_64(zeros);
  counts->blocks += 4 * vectors - total_64(zero_blocks);
  return 16 * vectors;
}
#else
int64_t add_vectors(const int8_t*, int64_t, WeightCounts*) { return 0; }
#endif

}  // namespace

void add_counts(const int8_t* w, int64_t count, WeightCounts* counts) {
  for (int64_t i = add_vectors(w, count, counts); i < count; i += 4)
    add_block(w + i, std::min<int64_t>(4, count - i), counts);
}

}  // namespace pyruntime
