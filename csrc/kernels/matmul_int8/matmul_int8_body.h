// What all rows of matmul_int8 share: loops the compiler vectorizes for the ISA of the source that includes
// this file.
#pragma once

#include "kernels/elementwise/elementwise.h"
#include "kernels/ivdep.h"
#include "kernels/matmul_int8/matmul_int8.h"

namespace pyruntime {
namespace {

#include "kernels/elementwise/float_math.h"

void pack_rows(int64_t m, int64_t k, const uint8_t* x, ptrdiff_t row_stride, ptrdiff_t column_stride,
               int32_t zero_point, int16_t* out) {
  const int64_t k2 = matmul_padded_k(k);
  for (int64_t i = 0; i < m; ++i, x += row_stride, out += k2) {
    if (column_stride == 1) {
      PYRUNTIME_IVDEP
      for (int64_t c = 0; c < k; ++c) out[c] = static_cast<int16_t>(x[c] - zero_point);
    } else {
      for (int64_t c = 0; c < k; ++c) out[c] = static_cast<int16_t>(x[c * column_stride] - zero_point);
    }
    if (k2 > k) out[k] = 0;
  }
}

// Any strides.
inline void pack_panel(int64_t k, int64_t columns, const uint8_t* x, ptrdiff_t k_stride, ptrdiff_t n_stride,
                       int32_t zero_point, int16_t* out) {
  for (int64_t c = 0; c < k; c += 2, out += 2 * kMatmulPanel) {
    const uint8_t* row = x + c * k_stride;
    const bool second = c + 1 < k;
    for (int64_t j = 0; j < kMatmulPanel; ++j) {
      const uint8_t* cell = row + j * n_stride;
      out[2 * j] = static_cast<int16_t>(j < columns ? cell[0] - zero_point : 0);
      out[2 * j + 1] = static_cast<int16_t>(j < columns && second ? cell[k_stride] - zero_point : 0);
    }
  }
}

void to_f32(int64_t n, const int32_t* acc, float multiplier, float offset, float lo, float hi, float* y) {
  PYRUNTIME_IVDEP
  for (int64_t i = 0; i < n; ++i)
    y[i] = clamp_f32(fma_f32(static_cast<float>(acc[i]), multiplier, offset), lo, hi);
}

// lo and hi are whole numbers in 0..255, so clamping before rounding gives the same result.
void to_u8(int64_t n, const int32_t* acc, float multiplier, float offset, float lo, float hi, uint8_t* y) {
  PYRUNTIME_IVDEP
  for (int64_t i = 0; i < n; ++i) {
    const float f = fma_f32(static_cast<float>(acc[i]), multiplier, offset);
    y[i] = static_cast<uint8_t>(bits_of(clamp_f32(f, lo, hi) + kRound));
  }
}

template <typename Code>
int32_t write_exp_codes(int64_t n, const int32_t* acc, float multiplier, const float* mask, float* scores,
                        Code* codes) {
  if (mask == nullptr) {
    PYRUNTIME_IVDEP
    for (int64_t i = 0; i < n; ++i) scores[i] = static_cast<float>(acc[i]) * multiplier;
  } else {
    PYRUNTIME_IVDEP
    for (int64_t i = 0; i < n; ++i) scores[i] = static_cast<float>(acc[i]) * multiplier + mask[i];
  }
  const float maximum = row_maximum(static_cast<size_t>(n), scores);
  int32_t sum = 0;
  PYRUNTIME_IVDEP
  for (int64_t i = 0; i < n; ++i) {
    const float e = exp_nonpositive_f32(scores[i] - maximum) * 255.0f;
    const int32_t code = static_cast<int32_t>(bits_of(e + kRound) - kRoundBits);
    codes[i] = static_cast<Code>(code);
    sum += code;
  }
  return sum;
}

int32_t exp_codes(int64_t n, const int32_t* acc, float multiplier, const float* mask, float* scores,
                  int16_t* codes) {
  if (n % 2 != 0) codes[n] = 0;
  return write_exp_codes(n, acc, multiplier, mask, scores, codes);
}

}  // namespace
}  // namespace pyruntime
