// depthwise_int8 on AVX2: 32 channels of up to 3 pixels at a time. Two taps are interleaved by bytes, then
// with zeros, which makes s16 pairs; VPMADDWD with the packed pairs of weights adds both products exactly:
//
//   per pair of taps and pixel: 2 loads, 6 unpacks, 4 VPMADDWD, 4 VPADDD       (64 MACs)
//
// Unpacking works within 128-bit halves, so accumulator v holds channels 4 * v to 4 * v + 3 of both halves of
// the 32 (see `pairs` in pack.h); packing the results to bytes puts them back in order.
#include <immintrin.h>

#include "kernels/depthwise_int8/depthwise_int8.h"
#include "kernels/requantize_avx2.h"

namespace pyruntime {
namespace {

constexpr int kMaxPixels = 3;

// Where a tile stands: x, y, residual at channel 0 of the first pixel; w at the 32 channels from `channel`
// on.
struct Tile {
  const uint8_t* x;
  uint8_t* y;
  const uint8_t* residual;
  const __m256i* w;
  int channel;
};

[[gnu::always_inline]] inline __m256i load32(const uint8_t* x) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
}

// The entries of channels 4 * v + (0, 1, 2, 3) and 16 + 4 * v + (0, 1, 2, 3) of a per-channel array.
[[gnu::always_inline]] inline __m256i gather_halves(const void* array, int v) {
  const __m128i* at = static_cast<const __m128i*>(array);
  return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(at + v)), _mm_loadu_si128(at + 4 + v),
                                 1);
}

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

// u8 output of 32 whole channels without residual.
template <int M>
[[gnu::always_inline]] inline void store_bytes(const DepthwiseInt8Args& args, const Tile& t,
                                               const __m256i (&acc)[M][4]) {
  const Requantize& q = args.requantize;
  const __m256 hi = _mm256_set1_ps(q.hi);
  const __m256i lo = _mm256_set1_epi8(static_cast<char>(static_cast<int>(q.lo)));
  __m256i value[M][4];
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    const __m256 multiplier = _mm256_castsi256_ps(gather_halves(q.multiplier + t.channel, v));
    const __m256 offset = _mm256_castsi256_ps(gather_halves(q.offset + t.channel, v));
#pragma GCC unroll 3
    for (int m = 0; m < M; ++m) {
      const __m256 f = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc[m][v]), multiplier, offset);
      value[m][v] = _mm256_cvtps_epi32(_mm256_min_ps(hi, f));
    }
  }
#pragma GCC unroll 3
  for (int m = 0; m < M; ++m) {
    const __m256i bytes = _mm256_packus_epi16(_mm256_packus_epi32(value[m][0], value[m][1]),
                                              _mm256_packus_epi32(value[m][2], value[m][3]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(t.y + m * args.y_col_stride + t.channel),
                        _mm256_max_epu8(bytes, lo));
  }
}

// Any output.
template <int M>
[[gnu::always_inline]] inline void store_any(const DepthwiseInt8Args& args, const Tile& t,
                                             const __m256i (&acc)[M][4]) {
  const Requantize& q = args.requantize;
  for (int m = 0; m < M; ++m) {
    const uint8_t* r = t.residual == nullptr ? nullptr : t.residual + m * q.residual_col_stride;
    for (int half = 0; half < 2; ++half) {
      const int channel = t.channel + 16 * half, channels = args.channel_end - channel;
      if (channels <= 0) continue;
      // Halves of vectors 0 and 1, then of 2 and 3: 16 channels in order.
      const __m256i first = half == 0 ? _mm256_permute2x128_si256(acc[m][0], acc[m][1], 0x20)
                                      : _mm256_permute2x128_si256(acc[m][0], acc[m][1], 0x31);
      const __m256i second = half == 0 ? _mm256_permute2x128_si256(acc[m][2], acc[m][3], 0x20)
                                       : _mm256_permute2x128_si256(acc[m][2], acc[m][3], 0x31);
      requantize_store16_avx2(q, first, second, channel, channels, r, t.y + m * args.y_col_stride);
    }
  }
}

template <int M>
[[gnu::always_inline]] inline void run_pixels(const DepthwiseInt8Args& args, const Tile& t) {
  const Requantize& q = args.requantize;
  __m256i acc[M][4];
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    const __m256i init = gather_halves(q.acc_init + t.channel, v);
#pragma GCC unroll 3
    for (int m = 0; m < M; ++m) acc[m][v] = init;
  }
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
  if (q.f32_output || t.residual != nullptr || args.channel_end - t.channel < 32)
    store_any<M>(args, t, acc);
  else
    store_bytes<M>(args, t, acc);
}

template <int M>
[[gnu::always_inline]] inline void step(const DepthwiseInt8Args& args, Tile* t) {
  run_pixels<M>(args, *t);
  t->x += M * args.x_col_stride;
  t->y += M * args.y_col_stride;
  if (t->residual != nullptr) t->residual += M * args.requantize.residual_col_stride;
}

void run_row(const DepthwiseInt8Args& args, Tile t) {
  int col = 0;
  for (; col + kMaxPixels <= args.cols; col += kMaxPixels) step<kMaxPixels>(args, &t);
  if (args.cols - col == 2) step<2>(args, &t);
  if (args.cols - col == 1) step<1>(args, &t);
}

}  // namespace

void run_depthwise_int8_u8s8s32_pairs__avx2(const DepthwiseInt8Args& args) {
  const Requantize& q = args.requantize;
  const ptrdiff_t block = static_cast<ptrdiff_t>((args.kh * args.kw + 1) / 2) * 4;  // vectors per 32 channels
  Tile t{};
  for (int row = 0; row < args.rows; ++row) {
    t.x = args.x + row * args.x_row_stride;
    t.y = static_cast<uint8_t*>(args.y) + row * args.y_row_stride;
    t.residual = q.residual == nullptr ? nullptr : q.residual + row * q.residual_row_stride;
    for (t.channel = args.channel_begin; t.channel < args.channel_end; t.channel += 32) {
      t.w = static_cast<const __m256i*>(args.w) + t.channel / 32 * block;
      run_row(args, t);
    }
  }
}

}  // namespace pyruntime
