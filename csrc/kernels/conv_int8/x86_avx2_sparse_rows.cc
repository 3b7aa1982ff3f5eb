// 1x4-block weights for few pixels on AVX2. The packing keeps every vpmaddubsw pair sum exact.
#include "kernels/conv_int8/x86_sparse_rows_body.h"

namespace pyruntime {
namespace {

[[gnu::always_inline]] inline __m256i add_products(__m256i acc, __m256i x, __m256i w) {
  return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), _mm256_set1_epi16(1)));
}

}  // namespace

void run_conv_int8_u8s8s32_block4_1x8__avx2(const ConvInt8Args& args) { run_sparse_rows(args); }

}  // namespace pyruntime
