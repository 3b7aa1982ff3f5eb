// depthwise_int8 on AVX2: 16 channels of up to 4 pixels at a time. Two taps are interleaved by bytes and
// widened to s16 pairs; VPMADDWD with the packed pairs of weights adds both products exactly:
//
//   per pair of taps and pixel: 2 loads, 2 unpacks, 2 VPMOVZXBW, 2 VPMADDWD, 2 VPADDD       (32 MACs)
#include <immintrin.h>

#include "kernels/depthwise_int8/depthwise_int8.h"
#include "kernels/requantize_avx2.h"

namespace pyruntime {
namespace {

constexpr int kMaxPixels = 4;

[[gnu::always_inline]] inline __m128i load16(const uint8_t* x) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
}

// x, y, residual stand at channel 0 of the first pixel.
template <int M>
[[gnu::always_inline]] inline void run_pixels(const DepthwiseInt8Args& args, const uint8_t* x, uint8_t* y,
                                              const uint8_t* residual, int channel, const __m256i* w) {
  const Requantize& q = args.requantize;
  __m256i acc[M][2];
  const __m256i* init = reinterpret_cast<const __m256i*>(q.acc_init + channel);
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) {
    acc[m][0] = _mm256_loadu_si256(init);
    acc[m][1] = _mm256_loadu_si256(init + 1);
  }
  const int taps = args.kh * args.kw;
  const ptrdiff_t next_row = args.tap_row_stride - args.kw * args.tap_col_stride;
  const uint8_t* tap = x + channel;
  int j = 0;
  for (int t = 0; t < taps; t += 2, w += 2) {
    const uint8_t* first = tap;
    tap += args.tap_col_stride;
    if (++j == args.kw) j = 0, tap += next_row;
    const uint8_t* second = t + 1 < taps ? tap : first;  // a missing tap has zero weights
    tap += args.tap_col_stride;
    if (++j == args.kw) j = 0, tap += next_row;
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
      const __m128i a = load16(first + m * args.x_col_stride), b = load16(second + m * args.x_col_stride);
      const __m256i low = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b));
      const __m256i high = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(a, b));
      acc[m][0] = _mm256_add_epi32(acc[m][0], _mm256_madd_epi16(low, _mm256_load_si256(w)));
      acc[m][1] = _mm256_add_epi32(acc[m][1], _mm256_madd_epi16(high, _mm256_load_si256(w + 1)));
    }
  }
  requantize_store_tile_avx2<M>(q, acc, channel, args.channel_end - channel, residual, q.residual_col_stride,
                                y, args.y_col_stride);
}

void run_row(const DepthwiseInt8Args& args, const uint8_t* x, uint8_t* y, const uint8_t* residual,
             int channel, const __m256i* w) {
  int col = 0;
  for (; col + kMaxPixels <= args.cols; col += kMaxPixels) {
    run_pixels<kMaxPixels>(args, x, y, residual, channel, w);
    x += kMaxPixels * args.x_col_stride;
    y += kMaxPixels * args.y_col_stride;
    if (residual != nullptr) residual += kMaxPixels * args.requantize.residual_col_stride;
  }
  for (; col < args.cols; ++col) {
    run_pixels<1>(args, x, y, residual, channel, w);
    x += args.x_col_stride;
    y += args.y_col_stride;
    if (residual != nullptr) residual += args.requantize.residual_col_stride;
  }
}

}  // namespace

void run_depthwise_int8_u8s8s32_pairs__avx2(const DepthwiseInt8Args& args) {
  const Requantize& q = args.requantize;
  const ptrdiff_t block =
      static_cast<ptrdiff_t>((args.kh * args.kw + 1) / 2) * 2;  // vectors of weights per 16 channels
  for (int row = 0; row < args.rows; ++row) {
    const uint8_t* x = args.x + row * args.x_row_stride;
    uint8_t* y = static_cast<uint8_t*>(args.y) + row * args.y_row_stride;
    const uint8_t* residual = q.residual == nullptr ? nullptr : q.residual + row * q.residual_row_stride;
    for (int channel = args.channel_begin; channel < args.channel_end; channel += 16) {
      run_row(args, x, y, residual, channel, static_cast<const __m256i*>(args.w) + channel / 16 * block);
    }
  }
}

}  // namespace pyruntime
