// Dense layers of few pixels on AVX2: the time is that of reading the weights, so they stay 8 bits wide
// (packing panel16) and are widened in registers. Of every 4 input channels the even, then the odd ones are
// multiplied as 16-bit words, which is exact: VPMADDWD adds the two products in 32 bits.
#include <immintrin.h>

#include "kernels/conv_int8/conv_int8.h"
#include "kernels/conv_int8/pack.h"
#include "kernels/conv_int8/sparse_pixel.h"
#include "kernels/products_avx2.h"
#include "kernels/requantize_avx2.h"

namespace pyruntime {
namespace {

[[gnu::always_inline]] inline __m256i add_group(__m256i acc, __m256i w, __m256i even, __m256i odd) {
  const __m256i w_even = _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8), w_odd = _mm256_srai_epi16(w, 8);
  return _mm256_add_epi32(acc,
                          _mm256_add_epi32(_mm256_madd_epi16(even, w_even), _mm256_madd_epi16(odd, w_odd)));
}

// P panels of 16 output channels of one pixel side by side: more streams of weights are on their way at once,
// and the activations are widened once for all.
template <int P>
void run_panels(const ConvInt8Args& args, const uint8_t* x, int channel, const uint8_t* residual,
                uint8_t* y) {
  const int groups = (args.k + 3) / 4;
  const __m256i low = _mm256_set1_epi16(0xff);
  const ptrdiff_t stride = conv_int8::panel16_stride(args.taps, args.k, 4);
  const uint8_t* w = static_cast<const uint8_t*>(args.w) + channel / 16 * stride;
  const __m256i* init = reinterpret_cast<const __m256i*>(args.requantize.acc_init + channel);
  __m256i acc[2 * P];
#pragma GCC unroll 8
  for (int i = 0; i < 2 * P; ++i) acc[i] = _mm256_loadu_si256(init + i);
  for (int t = 0; t < args.taps; ++t) {
    const uint8_t* in = x + args.tap_offset[t];
    for (int g = 0; g < groups; ++g, w += 64) {
      const __m256i value = broadcast4(in + 4 * g);
      const __m256i even = _mm256_and_si256(value, low), odd = _mm256_srli_epi16(value, 8);
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) {
        const __m256i* panel = reinterpret_cast<const __m256i*>(w + p * stride);
        acc[2 * p] = add_group(acc[2 * p], _mm256_load_si256(panel), even, odd);
        acc[2 * p + 1] = add_group(acc[2 * p + 1], _mm256_load_si256(panel + 1), even, odd);
      }
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
    const int o = channel + 16 * p;
    requantize_store16_avx2(args.requantize, acc[2 * p], acc[2 * p + 1], o, args.n - o, residual, y);
  }
}

}  // namespace

void run_conv_int8_u8s8s32_1x16x4__avx2(const ConvInt8Args& args) {
  for (int row = 0; row < args.rows; ++row) {
    for (int col = 0; col < args.cols; ++col) {
      const uint8_t* x = pixel_x(args, row, col);
      const uint8_t* residual = pixel_residual(args.requantize, row, col);
      uint8_t* y = pixel_y(args, row, col);
      int o = args.n_begin;
      for (; o + 48 < args.n_end; o += 64) run_panels<4>(args, x, o, residual, y);
      for (; o < args.n_end; o += 16) run_panels<1>(args, x, o, residual, y);
    }
  }
}

}  // namespace pyruntime
