// Packed matrices of 16-bit words as matmul_int8.h draws them, for rows that multiply words.
#pragma once

#include "kernels/matmul_int8/matmul_int8_body.h"

namespace pyruntime {
namespace {

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

// One row; returns the sum of its codes.
inline int32_t exp_codes_of(int64_t n, const int32_t* acc, float multiplier, const float* mask, float* scores,
                            int16_t* codes) {
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
    codes[i] = static_cast<int16_t>(code);
    sum += code;
  }
  if (n % 2 != 0) codes[n] = 0;
  return sum;
}

void exp_codes(const ExpCodes& rows) {
  for (int64_t i = 0; i < rows.m; ++i) {
    rows.sums[i] = exp_codes_of(rows.n, rows.acc + i * rows.acc_stride, rows.multiplier,
                                rows.mask == nullptr ? nullptr : rows.mask + i * rows.mask_stride,
                                rows.scores, rows.codes + i * matmul_padded_k(rows.n));
  }
}

}  // namespace
}  // namespace pyruntime
