// What the rows of weights of 4 bits (int4.h) on vectors of 32 bytes share: AVX2 and AVX-VNNI. The source
// that includes this defines the functions declared first.
#pragma once

#include <immintrin.h>

#include "kernels/conv_int8/int4.h"
#include "kernels/conv_int8/sparse_pixel.h"
#include "kernels/products_avx2.h"
#include "kernels/requantize_avx2.h"

namespace pyruntime {
namespace {

// What the sums of a block start at in each dword: -8 times the sum of its activations x.
int32_t block_start(__m256i x);

// Adds to each dword the products of 4 activations and levels + 8.
__m256i add_products(__m256i sum, __m256i x, __m256i levels);

// The multipliers of 8 output channels, of which byte `first` of each half of `bytes` is the first.
__m256i block_factors(__m256i bytes, int first);

__m256i add_block(__m256i acc, __m256i sum, __m256i factors);

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

void block_starts(const uint8_t* inputs, int blocks, int32_t* starts) {
  for (int b = 0; b < blocks; ++b)
    starts[b] = block_start(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(inputs + b * kInt4Block)));
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
        const __m256i x = broadcast4(inputs + m * pixels.input_bytes + 4 * g);
        sum[m][0] = add_products(sum[m][0], x, low);
        sum[m][1] = add_products(sum[m][1], x, high);
        __asm__("" : "+x"(sum[m][0]), "+x"(sum[m][1]));  // added in this order, else the products are spilled
      }
    }
    const __m256i bytes =
        _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(multipliers)));
    const __m256i low = block_factors(bytes, 0), high = block_factors(bytes, 8);
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
      acc[m][0] = add_block(acc[m][0], sum[m][0], low);
      acc[m][1] = add_block(acc[m][1], sum[m][1], high);
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

void run_int4(const ConvInt8Args& args) {
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

}  // namespace

}  // namespace pyruntime
