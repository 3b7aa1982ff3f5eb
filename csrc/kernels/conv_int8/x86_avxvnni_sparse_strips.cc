// 1x4-block weights for many pixels on AVX-VNNI (sparse_list.h), up to 12 x 8 pixels together: a block takes
// two loads, of its number and its weights, and one more for each vector.
#include "kernels/conv_int8/x86_sparse_strips_body.h"

namespace pyruntime {
namespace {

// Adds the products of entry i of the list.
template <int V>
[[gnu::always_inline]] inline void add_block(const SparseList& list, uint32_t i, const int32_t* inputs,
                                             __m256i (&acc)[V]) {
  const int32_t* x = inputs + static_cast<ptrdiff_t>(list.block[i]) * (V * kLanes);
  const __m256i w = _mm256_set1_epi32(list.weights[i]);
#pragma GCC unroll 12
  for (int v = 0; v < V; ++v) {
    acc[v] = _mm256_dpbusd_avx_epi32(acc[v], _mm256_load_si256(vec(x + v * kLanes)), w);
    __asm__("" : "+x"(acc[v]));  // in this order, else all inputs are loaded first and sums are spilled
  }
}

// VPDPBUSD takes 4 or 5 cycles, two start in one: few vectors have several sums each.
template <int V>
[[gnu::always_inline]] inline void accumulate(const SparseList& list, int channel, const int32_t* inputs,
                                              __m256i (&acc)[V]) {
  constexpr int kSets = V <= 3 ? 4 : V <= 6 ? 2 : 1;
  uint32_t i = list.first[channel];
  const uint32_t end = list.first[channel + 1];
  if (kSets > 1) {
    __m256i set[kSets][V] = {};
    for (; i + kSets <= end; i += kSets) {
#pragma GCC unroll 4
      for (int s = 0; s < kSets; ++s) add_block<V>(list, i + static_cast<uint32_t>(s), inputs, set[s]);
    }
#pragma GCC unroll 4
    for (int s = 0; s < kSets; ++s) {
#pragma GCC unroll 6
      for (int v = 0; v < V; ++v) acc[v] = _mm256_add_epi32(acc[v], set[s][v]);
    }
  }
  for (; i < end; ++i) add_block<V>(list, i, inputs, acc);
}

constexpr StripFunction kStrips[conv_int8::kStripVectors] = {
    run_strip<1>, run_strip<2>, run_strip<3>, run_strip<4>,  run_strip<5>,  run_strip<6>,
    run_strip<7>, run_strip<8>, run_strip<9>, run_strip<10>, run_strip<11>, run_strip<12>};

}  // namespace

void run_conv_int8_u8s8s32_block4_96x1__avxvnni(const ConvInt8Args& args) {
  run_strips(args, conv_int8::sparse_list(args.w, args.n), kStrips, conv_int8::list_vectors(args));
}

}  // namespace pyruntime
