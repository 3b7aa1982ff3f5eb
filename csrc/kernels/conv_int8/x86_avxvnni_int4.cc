// Weights of 4 bits (int4.h) on AVX-VNNI: VPDPBUSD adds up a block in 32 bits, starting at -8 times its
// activations. A sum takes 17 bits and a sign (32 * 255 * 8), so VPMULLD multiplies it by the multiplier.
#include "kernels/conv_int8/x86_int4_body.h"

namespace pyruntime {
namespace {

[[gnu::always_inline]] inline int32_t block_start(__m256i x) {
  const __m256i fours =
      _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), x, _mm256_set1_epi8(-conv_int8::kInt4Offset));
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256(fours, 1));
  sum = _mm_add_epi32(sum, _mm_srli_si128(sum, 8));
  return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_srli_si128(sum, 4)));
}

[[gnu::always_inline]] inline __m256i add_products(__m256i sum, __m256i x, __m256i levels) {
  return _mm256_dpbusd_avx_epi32(sum, x, levels);
}

// Each multiplier as a dword.
[[gnu::always_inline]] inline __m256i block_factors(__m256i bytes, int first) {
  const __m256i order = _mm256_setr_epi8(0, -1, -1, -1, 1, -1, -1, -1, 2, -1, -1, -1, 3, -1, -1, -1,  //
                                         4, -1, -1, -1, 5, -1, -1, -1, 6, -1, -1, -1, 7, -1, -1, -1);
  return _mm256_shuffle_epi8(bytes, _mm256_add_epi8(order, _mm256_set1_epi32(first)));
}

[[gnu::always_inline]] inline __m256i add_block(__m256i acc, __m256i sum, __m256i factors) {
  return _mm256_add_epi32(acc, _mm256_mullo_epi32(sum, factors));
}

}  // namespace

void run_conv_int8_u8s4s32_4x16x32__avxvnni(const ConvInt8Args& args) { run_int4(args); }

}  // namespace pyruntime
