// Weights of 4 bits (int4.h) on AVX2. A product of level + 8 is at most 255 * 15, two of them cannot saturate
// VPMADDUBSW; and of a block, eight groups of 4 input channels, the sums of x * level are within 8 * 2 * 255
// * 8 = 32640. So a block is added up in 16 bits, starting at -8 times its activations (additions wrap, the
// result fits), and VPMADDWD multiplies by the multiplier what it widens.
#include <immintrin.h>

#include "kernels/conv_int8/int4.h"
#include "kernels/conv_int8/sparse_pixel.h"
#include "kernels/requantize_avx2.h"

namespace pyruntime {
namespace {

using conv_int8::kInt4Block;
using conv_int8::kInt4BlockBytes;
using conv_int8::kInt4Pixels;

constexpr ptrdiff_t kPrefetchBytes = 4096;  // the panels of a layer are one stream

// Up to kInt4Pixels pixels: copies of their activations, input_bytes each, and what their blocks start at.
struct Pixels {
  const uint8_t* inputs;
  const int32_t* starts;
  int input_bytes;
  const uint8_t* const* residual;
  uint8_t* const* y;
};

// For each block s16 [2]: -8 times the sum of its input channels 0, 1 of 4, and of the channels 2, 3.
void block_starts(const uint8_t* inputs, int blocks, int32_t* starts) {
  const __m256i factor = _mm256_set1_epi8(-conv_int8::kInt4Offset);
  for (int b = 0; b < blocks; ++b) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(inputs + b * kInt4Block));
    const __m256i pairs = _mm256_maddubs_epi16(x, factor);
    __m128i sum = _mm_add_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    sum = _mm_add_epi16(sum, _mm_srli_si128(sum, 8));
    starts[b] = _mm_cvtsi128_si32(_mm_add_epi16(sum, _mm_srli_si128(sum, 4)));
  }
}

// The multipliers of 8 output channels, each as a pair of words: its byte among 16 and zeros.
[[gnu::always_inline]] inline __m256i factor_pairs(__m256i multipliers, int first) {
  const __m256i order = _mm256_setr_epi8(0, -1, 0, -1, 1, -1, 1, -1, 2, -1, 2, -1, 3, -1, 3, -1,  //
                                         4, -1, 4, -1, 5, -1, 5, -1, 6, -1, 6, -1, 7, -1, 7, -1);
  return _mm256_shuffle_epi8(multipliers,
                             _mm256_add_epi8(order, _mm256_set1_epi16(static_cast<short>(first))));
}

// One panel for M pixels, whose inputs (and starts) lie input_bytes apart.
template <int M>
void run_panel(const ConvInt8Args& args, const Pixels& pixels, int panel) {
  const int blocks = conv_int8::int4_blocks(args.taps, args.k), channel = 16 * panel;
  const uint8_t* w = static_cast<const uint8_t*>(args.w) + panel * conv_int8::int4_panel_stride(blocks);
  const uint8_t* multipliers = w + static_cast<ptrdiff_t>(blocks) * kInt4BlockBytes;
  const uint8_t* inputs = pixels.inputs;
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i* init = reinterpret_cast<const __m256i*>(args.requantize.acc_init + channel);
  __m256i acc[M][2];
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) {
    acc[m][0] = _mm256_loadu_si256(init);
    acc[m][1] = _mm256_loadu_si256(init + 1);
  }
  for (int b = 0; b < blocks; ++b) {
    __m256i sum[M][2];
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) sum[m][0] = sum[m][1] = _mm256_set1_epi32(pixels.starts[m * blocks + b]);
#pragma GCC unroll 8
    for (int g = 0; g < kInt4Block / 4; ++g) {
      if (g % 2 == 0) _mm_prefetch(reinterpret_cast<const char*>(w + 32 * g + kPrefetchBytes), _MM_HINT_T0);
      const __m256i levels = _mm256_load_si256(reinterpret_cast<const __m256i*>(w + 32 * g));
      const __m256i low = _mm256_and_si256(levels, nibble);
      const __m256i high = _mm256_and_si256(_mm256_srli_epi16(levels, 4), nibble);
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) {
        int32_t bytes;
        __builtin_memcpy(&bytes, inputs + m * pixels.input_bytes + 4 * g, 4);
        const __m256i x = _mm256_set1_epi32(bytes);
        sum[m][0] = _mm256_add_epi16(sum[m][0], _mm256_maddubs_epi16(x, low));
        sum[m][1] = _mm256_add_epi16(sum[m][1], _mm256_maddubs_epi16(x, high));
        __asm__("" : "+x"(sum[m][0]), "+x"(sum[m][1]));  // added in this order, else the products are spilled
      }
    }
    const __m256i bytes =
        _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(multipliers)));
    const __m256i low = factor_pairs(bytes, 0), high = factor_pairs(bytes, 8);
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
      acc[m][0] = _mm256_add_epi32(acc[m][0], _mm256_madd_epi16(sum[m][0], low));
      acc[m][1] = _mm256_add_epi32(acc[m][1], _mm256_madd_epi16(sum[m][1], high));
    }
    inputs += kInt4Block;
    w += kInt4BlockBytes;
    multipliers += 16;
  }
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) {
    requantize_store16_avx2(args.requantize, acc[m][0], acc[m][1], channel, args.n - channel,
                            pixels.residual[m], pixels.y[m]);
  }
}

template <int M>
void run_panels(const ConvInt8Args& args, const Pixels& pixels) {
  for (int o = args.n_begin; o < args.n_end; o += 16) run_panel<M>(args, pixels, o / 16);
}

}  // namespace

void run_conv_int8_u8s4s32_4x16x32__avx2(const ConvInt8Args& args) {
  using Run = void (*)(const ConvInt8Args&, const Pixels&);
  constexpr Run kRun[kInt4Pixels] = {run_panels<1>, run_panels<2>, run_panels<3>, run_panels<4>};
  const int blocks = conv_int8::int4_blocks(args.taps, args.k);
  uint8_t* inputs = static_cast<uint8_t*>(args.scratch);
  int32_t* starts = reinterpret_cast<int32_t*>(inputs + kInt4Pixels * blocks * kInt4Block);
  Strip strip;
  for (int row = 0, col = 0; row < args.rows;) {
    fill_strip(args, kInt4Pixels, &row, &col, &strip);
    for (int m = 0; m < strip.count; ++m) {
      conv_int8::int4_inputs(args, strip.x[m], inputs + m * blocks * kInt4Block);
      block_starts(inputs + m * blocks * kInt4Block, blocks, starts + m * blocks);
    }
    kRun[strip.count - 1](args, {inputs, starts, blocks * kInt4Block, strip.residual, strip.y});
  }
}

}  // namespace pyruntime
