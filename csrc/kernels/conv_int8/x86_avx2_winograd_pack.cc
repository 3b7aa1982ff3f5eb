// The packing winograd4x4 of winograd.h.
#include <immintrin.h>

#include <cstring>

#include "base/transpose_avx2.h"
#include "kernels/conv_int8/winograd.h"

namespace pyruntime {
namespace conv_int8 {
namespace {

constexpr int kTaps = 9;

// Times G.
[[gnu::always_inline]] inline void transform_weights(__m256i w0, __m256i w1, __m256i w2, __m256i* r,
                                                     ptrdiff_t to) {
  const __m256i outer = _mm256_add_epi16(w0, w2), far = _mm256_add_epi16(w0, _mm256_slli_epi16(w2, 2));
  const __m256i twice = _mm256_add_epi16(w1, w1), six = _mm256_set1_epi16(6);
  r[0] = _mm256_mullo_epi16(w0, six);
  r[to] = _mm256_add_epi16(outer, w1);
  r[2 * to] = _mm256_sub_epi16(outer, w1);
  r[3 * to] = _mm256_add_epi16(far, twice);
  r[4 * to] = _mm256_sub_epi16(far, twice);
  r[5 * to] = _mm256_mullo_epi16(w2, six);
}

// 16 input channels of one output channel: `taps` are 9 rows of 16 bytes `stride` apart.
void transform_16(const int8_t* taps, ptrdiff_t stride, __m256i* out) {
  __m256i w[kTaps], half[kWinogradInputs][3];
  for (int t = 0; t < kTaps; ++t)
    w[t] = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(taps + t * stride)));
  for (int j = 0; j < 3; ++j) transform_weights(w[j], w[3 + j], w[6 + j], &half[0][j], 3);
  for (int i = 0; i < kWinogradInputs; ++i)
    transform_weights(half[i][0], half[i][1], half[i][2], out + kWinogradInputs * i, 1);
}

}  // namespace

size_t packed_bytes_winograd4x4(const ConvInt8Weights& weights) {
  const size_t outputs = static_cast<size_t>((weights.n + 15) / 16 * 16);
  return outputs * kWinogradPositions * static_cast<size_t>(winograd_channels(weights.k)) * 2;
}

void pack_winograd4x4(const ConvInt8Weights& weights, void* packed) {
  const ptrdiff_t channels = winograd_channels(weights.k), position = channels * 32;
  const ptrdiff_t row = static_cast<ptrdiff_t>(kTaps) * weights.k;
  for (ptrdiff_t n = 0; n < weights.n; n += 8) {
    // 8 of the 16 output channels of a panel.
    uint8_t* panel = static_cast<uint8_t*>(packed) + n / 16 * kWinogradPositions * position + n % 16 * 4;
    for (ptrdiff_t c = 0; c < channels; c += 16) {
      __m256i out[8][kWinogradPositions];
      for (int o = 0; o < 8; ++o) {
        alignas(16) int8_t taps[kTaps][16] = {};
        const int8_t* from = weights.w + (n + o) * row + c;
        ptrdiff_t stride = weights.k;
        if (n + o >= weights.n || c + 16 > weights.k) {
          const size_t count = static_cast<size_t>(weights.k - c < 16 ? weights.k - c : 16);
          for (int t = 0; t < kTaps && n + o < weights.n; ++t)
            std::memcpy(taps[t], from + t * weights.k, count);
          from = taps[0];
          stride = 16;
        }
        transform_16(from, stride, out[o]);
      }
      for (int p = 0; p < kWinogradPositions; ++p) {
        __m256i pairs[8];
        for (int o = 0; o < 8; ++o) pairs[o] = out[o][p];
        transpose_8x8(pairs);
        for (int i = 0; i < 8; ++i)
          _mm256_store_si256(reinterpret_cast<__m256i*>(panel + p * position + (c / 2 + i) * 64), pairs[i]);
      }
    }
  }
  // A last panel of at most 8 output channels has 8 missing ones.
  if (weights.n % 16 > 0 && weights.n % 16 <= 8) {
    uint8_t* panel = static_cast<uint8_t*>(packed) + weights.n / 16 * kWinogradPositions * position + 32;
    for (ptrdiff_t at = 0; at < kWinogradPositions * position; at += 64) std::memset(panel + at, 0, 32);
  }
}

}  // namespace conv_int8
}  // namespace pyruntime
