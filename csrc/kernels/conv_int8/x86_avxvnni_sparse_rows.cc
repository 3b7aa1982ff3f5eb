// 1x4-block weights for few pixels on AVX-VNNI, in a packing that splits no block.
#include "kernels/conv_int8/x86_sparse_rows_body.h"

namespace pyruntime {
namespace {

[[gnu::always_inline]] inline __m256i add_products(__m256i acc, __m256i x, __m256i w) {
  return _mm256_dpbusd_avx_epi32(acc, x, w);
}

}  // namespace

void run_conv_int8_u8s8s32_block4_1x8__avxvnni(const ConvInt8Args& args) { run_sparse_rows(args); }

}  // namespace pyruntime
