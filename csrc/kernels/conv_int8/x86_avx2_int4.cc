// Weights of 4 bits (int4.h) on AVX2. A product of level + 8 is at most 255 * 15, two of them cannot saturate
// VPMADDUBSW; and of a block, eight groups of 4 input channels, the sums of x * level are within 8 * 2 * 255
// * 8 = 32640. So a block is added up in 16 bits, starting at -8 times its activations (additions wrap, the
// result fits), and VPMADDWD multiplies by the multiplier what it widens.
#include "kernels/conv_int8/x86_int4_body.h"

namespace pyruntime {
namespace {

// s16 [2]: -8 times the sum of the activations 0, 1 of 4, and of the activations 2, 3.
[[gnu::always_inline]] inline int32_t block_start(__m256i x) {
  const __m256i pairs = _mm256_maddubs_epi16(x, _mm256_set1_epi8(-conv_int8::kInt4Offset));
  __m128i sum = _mm_add_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
  sum = _mm_add_epi16(sum, _mm_srli_si128(sum, 8));
  return _mm_cvtsi128_si32(_mm_add_epi16(sum, _mm_srli_si128(sum, 4)));
}

[[gnu::always_inline]] inline __m256i add_products(__m256i sum, __m256i x, __m256i levels) {
  return _mm256_add_epi16(sum, _mm256_maddubs_epi16(x, levels));
}

// Each multiplier as a pair of words.
[[gnu::always_inline]] inline __m256i block_factors(__m256i bytes, int first) {
  const __m256i order = _mm256_setr_epi8(0, -1, 0, -1, 1, -1, 1, -1, 2, -1, 2, -1, 3, -1, 3, -1,  //
                                         4, -1, 4, -1, 5, -1, 5, -1, 6, -1, 6, -1, 7, -1, 7, -1);
  return _mm256_shuffle_epi8(bytes, _mm256_add_epi8(order, _mm256_set1_epi16(static_cast<short>(first))));
}

[[gnu::always_inline]] inline __m256i add_block(__m256i acc, __m256i sum, __m256i factors) {
  return _mm256_add_epi32(acc, _mm256_madd_epi16(sum, factors));
}

}  // namespace

void run_conv_int8_u8s4s32_4x16x32__avx2(const ConvInt8Args& args) { run_int4(args); }

}  // namespace pyruntime
