// depthwise_int8 on AVX2: 32 channels of up to 3 pixels at a time. Two taps are interleaved by bytes, then
// with zeros, which makes s16 pairs; VPMADDWD with the packed pairs of weights adds both products exactly:
//
//   per pair of taps and pixel: 2 loads, 6 unpacks, 4 VPMADDWD, 4 VPADDD       (64 MACs)
//
// The order of channels is that of `pairs` in pack.h.
#include <immintrin.h>

#include "kernels/depthwise_int8/x86_avx2_body.h"

namespace pyruntime {
namespace {

constexpr int kMaxPixels = 3;

[[gnu::always_inline]] inline void add_pair(__m256i (&acc)[4], const uint8_t* first, const uint8_t* second,
                                            const __m256i* w) {
  const __m256i a = load32(first), b = load32(second), zero = _mm256_setzero_si256();
  const __m256i low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b);
  const __m256i pairs[4] = {_mm256_unpacklo_epi8(low, zero), _mm256_unpackhi_epi8(low, zero),
                            _mm256_unpacklo_epi8(high, zero), _mm256_unpackhi_epi8(high, zero)};
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v)
    acc[v] = _mm256_add_epi32(acc[v], _mm256_madd_epi16(pairs[v], _mm256_load_si256(w + v)));
}

template <int M>
[[gnu::always_inline]] inline void run_pixels(const DepthwiseInt8Args& args, const Tile& t) {
  __m256i acc[M][4];
  load_init<M>(t, acc);
  const int taps = args.kh * args.kw;
  const ptrdiff_t next_row = args.tap_row_stride - args.kw * args.tap_col_stride;
  const uint8_t* tap = t.x + t.channel;
  const __m256i* w = t.w;
  int j = 0;
  for (int i = 0; i < taps; i += 2, w += 4) {
    const uint8_t* first = tap;
    tap += args.tap_col_stride;
    if (++j == args.kw) j = 0, tap += next_row;
    const uint8_t* second = i + 1 < taps ? tap : first;  // a missing tap has zero weights
    tap += args.tap_col_stride;
    if (++j == args.kw) j = 0, tap += next_row;
#pragma GCC unroll 3
    for (int m = 0; m < M; ++m)
      add_pair(acc[m], first + m * args.x_col_stride, second + m * args.x_col_stride, w);
  }
  store_tile<M>(args, t, acc);
}

template <int M>
[[gnu::always_inline]] inline void step(const DepthwiseInt8Args& args, Tile* t) {
  run_pixels<M>(args, *t);
  advance(args, M, t);
}

void run_row(const DepthwiseInt8Args& args, Tile t) {
  int col = 0;
  for (; col + kMaxPixels <= args.cols; col += kMaxPixels) step<kMaxPixels>(args, &t);
  if (args.cols - col == 2) step<2>(args, &t);
  if (args.cols - col == 1) step<1>(args, &t);
}

}  // namespace

void run_depthwise_int8_u8s8s32_pairs__avx2(const DepthwiseInt8Args& args) {
  const ptrdiff_t block = static_cast<ptrdiff_t>((args.kh * args.kw + 1) / 2) * 4;  // vectors per 32 channels
  const auto weights = [&](int channel) {
    return static_cast<const __m256i*>(args.w) + channel / 32 * block;
  };
  for_each_row(args, weights, [&](const Tile& t) { run_row(args, t); });
}

}  // namespace pyruntime
