// 1x4-block weights for many pixels on AVX2 (sparse_pairs.h), up to 8 x 8 pixels together.
#include "kernels/conv_int8/sparse_pairs.h"
#include "kernels/conv_int8/x86_sparse_strips_body.h"

namespace pyruntime {
namespace {

[[gnu::always_inline]] inline __m256i products(const int32_t* x, __m256i w) {
  return _mm256_maddubs_epi16(_mm256_load_si256(vec(x)), w);
}

template <int V>
[[gnu::always_inline]] inline void accumulate(const SparseList& list, int channel, const int32_t* inputs,
                                              __m256i (&acc)[V]) {
  const __m256i ones = _mm256_set1_epi16(1);
  const uint32_t* first = list.first + 2 * channel;
  uint32_t i = first[0];
  for (; i < first[1]; i += 2) {
    const int32_t* x0 = inputs + static_cast<ptrdiff_t>(list.block[i]) * (V * kLanes);
    const int32_t* x1 = inputs + static_cast<ptrdiff_t>(list.block[i + 1]) * (V * kLanes);
    const __m256i w0 = _mm256_set1_epi32(list.weights[i]), w1 = _mm256_set1_epi32(list.weights[i + 1]);
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const __m256i pairs = _mm256_add_epi16(products(x0 + v * kLanes, w0), products(x1 + v * kLanes, w1));
      acc[v] = _mm256_add_epi32(acc[v], _mm256_madd_epi16(pairs, ones));
    }
  }
  for (; i < first[2]; ++i) {
    const int32_t* x = inputs + static_cast<ptrdiff_t>(list.block[i]) * (V * kLanes);
    const __m256i w = _mm256_set1_epi32(list.weights[i]);
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v)
      acc[v] = _mm256_add_epi32(acc[v], _mm256_madd_epi16(products(x + v * kLanes, w), ones));
  }
}

constexpr StripFunction kStrips[conv_int8::kPairVectors] = {run_strip<1>, run_strip<2>, run_strip<3>,
                                                            run_strip<4>, run_strip<5>, run_strip<6>,
                                                            run_strip<7>, run_strip<8>};

}  // namespace

void run_conv_int8_u8s8s32_block4_64x1__avx2(const ConvInt8Args& args) {
  run_strips(args, conv_int8::sparse_pairs(args.w, args.n), kStrips, conv_int8::pair_vectors(args));
}

}  // namespace pyruntime
