// Weights of 4 bits (int4.h) on AVX-512-VNNI. 64 bytes of nibbles are two groups of 4 input channels: the
// lower half of a vector takes the even groups, the upper half the odd ones, and the halves are added in the
// end. VPDPBUSD multiplies by level + 8, each block starts at -8 times the sum of its activations.
#include <immintrin.h>

#include "kernels/conv_int8/int4.h"
#include "kernels/conv_int8/sparse_pixel.h"
#include "kernels/requantize_avx512.h"

namespace pyruntime {
namespace {

using conv_int8::kInt4Block;
using conv_int8::kInt4BlockBytes;

constexpr int kVectors = kInt4BlockBytes / 64;  // of nibbles of a block
constexpr ptrdiff_t kPrefetchBytes = 1024;      // ahead of each stream of weights

// -8 times the sum of each block.
void block_starts(const uint8_t* inputs, int blocks, int32_t* starts) {
  for (int b = 0; b < blocks; ++b) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(inputs + b * kInt4Block));
    const __m256i sums = _mm256_sad_epu8(x, _mm256_setzero_si256());
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    sum = _mm_add_epi32(sum, _mm_srli_si128(sum, 8));
    starts[b] = -conv_int8::kInt4Offset * _mm_cvtsi128_si32(sum);
  }
}

// P panels of 16 output channels side by side, so that more streams of weights are on their way at once.
template <int P>
void run_panels(const ConvInt8Args& args, const uint8_t* inputs, const int32_t* starts, int channel,
                const uint8_t* residual, uint8_t* y) {
  const int blocks = conv_int8::int4_blocks(args.taps, args.k);
  const ptrdiff_t stride = conv_int8::int4_panel_stride(blocks);
  const uint8_t* w = static_cast<const uint8_t*>(args.w) + channel / 16 * stride;
  const uint8_t* multipliers = w + static_cast<ptrdiff_t>(blocks) * kInt4BlockBytes;
  const __m512i nibble = _mm512_set1_epi8(15);
  const __m512i halves = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
  __m512i acc[2 * P];  // output channels 0-7 and 8-15 of each panel
#pragma GCC unroll 8
  for (int i = 0; i < 2 * P; ++i) acc[i] = _mm512_setzero_si512();
  for (int b = 0; b < blocks; ++b) {
    const __m512i start = _mm512_maskz_set1_epi32(0x00ff, starts[b]);
    __m512i x[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const __m128i two = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(inputs + 8 * v));
      x[v] = _mm512_permutexvar_epi32(halves, _mm512_castsi128_si512(two));
    }
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      const uint8_t* panel = w + p * stride;
      __m512i sum_low = start, sum_high = start;
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const __m512i levels = _mm512_loadu_si512(panel + 64 * v);
        _mm_prefetch(reinterpret_cast<const char*>(panel + 64 * v + kPrefetchBytes), _MM_HINT_T0);
        const __m512i upper = _mm512_and_si512(_mm512_srli_epi16(levels, 4), nibble);
        sum_low = _mm512_dpbusd_epi32(sum_low, x[v], _mm512_and_si512(levels, nibble));
        sum_high = _mm512_dpbusd_epi32(sum_high, x[v], upper);
      }
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(multipliers + p * stride));
      const __m512i factors = _mm512_cvtepu8_epi32(bytes);
      const __m512i factors_low = _mm512_shuffle_i64x2(factors, factors, 0x44);
      const __m512i factors_high = _mm512_shuffle_i64x2(factors, factors, 0xee);
      acc[2 * p] = _mm512_add_epi32(acc[2 * p], _mm512_mullo_epi32(sum_low, factors_low));
      acc[2 * p + 1] = _mm512_add_epi32(acc[2 * p + 1], _mm512_mullo_epi32(sum_high, factors_high));
    }
    inputs += kInt4Block;
    w += kInt4BlockBytes;
    multipliers += 16;
  }
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
    const int o = channel + 16 * p;
    const __m512i even = _mm512_shuffle_i64x2(acc[2 * p], acc[2 * p + 1], 0x44);
    const __m512i odd = _mm512_shuffle_i64x2(acc[2 * p], acc[2 * p + 1], 0xee);
    const __m512i init = _mm512_loadu_si512(args.requantize.acc_init + o);
    const __m512i sum = _mm512_add_epi32(init, _mm512_add_epi32(even, odd));
    requantize_store16(args.requantize, sum, o, args.n - o, residual, y);
  }
}

}  // namespace

void run_conv_int8_u8s4s32_1x16x32__avx512vnni(const ConvInt8Args& args) {
  const int blocks = conv_int8::int4_blocks(args.taps, args.k);
  uint8_t* inputs = static_cast<uint8_t*>(args.scratch);
  int32_t* starts = reinterpret_cast<int32_t*>(inputs + blocks * kInt4Block);
  for (int row = 0; row < args.rows; ++row) {
    for (int col = 0; col < args.cols; ++col) {
      conv_int8::int4_inputs(args, pixel_x(args, row, col), inputs);
      block_starts(inputs, blocks, starts);
      const uint8_t* residual = pixel_residual(args.requantize, row, col);
      uint8_t* y = pixel_y(args, row, col);
      int o = args.n_begin;
      for (; o + 48 < args.n_end; o += 64) run_panels<4>(args, inputs, starts, o, residual, y);
      for (; o < args.n_end; o += 16) run_panels<1>(args, inputs, starts, o, residual, y);
    }
  }
}

}  // namespace pyruntime
