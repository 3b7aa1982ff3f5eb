// Products of two computed u8 matrices, and what attention does between its two products (docs/format.md,
// matmul and attention). Both sides are packed into signed 16 bits with their zero points taken off, so that
// sums of products are exact in 32 bits as long as 255 * 255 * k < 2^31.
//
//   rows     A[m][k2]: a row of k values, the last one doubled by a zero if k is odd; k2 = k rounded up to 2
//   columns  B[n / 16][k2 / 2][16][2]: panels of 16 columns, two values of k side by side; absent columns are
//   0
//
// A row may fill these buffers in a way of its own: only its own functions read them, and only exp_codes
// writes packed rows beside pack_rows.
//
// All rows of the family give the same bits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/isa.h"

namespace pyruntime {

constexpr int kMatmulPanel = 16;
constexpr int64_t kMatmulLongest = 33025;  // values of k whose sum fits 32 bits

inline int64_t matmul_padded_k(int64_t k) { return (k + 1) / 2 * 2; }
inline int64_t matmul_padded_n(int64_t n) { return (n + kMatmulPanel - 1) / kMatmulPanel * kMatmulPanel; }

// Rows of attention between its two products: s = f32(acc) * multiplier (+ mask),
// codes = rne(255 * exp(s - max s)), NaN 0.
struct ExpCodes {
  int64_t m, n;
  int32_t* acc;  // n values a row, readable up to a multiple of 16; may be overwritten
  ptrdiff_t acc_stride;
  float multiplier;
  const float* mask;  // n values a row, or null
  ptrdiff_t mask_stride;
  float* scores;   // n values to work in; may be the mask if m is 1
  int16_t* codes;  // packed rows
  int32_t* sums;   // of the codes of a row
};

struct MatmulInt8Kernels {
  const char* name;
  Isa isa;
  // out[i][k2] = x[i * row_stride + c * column_stride] - zero_point
  void (*pack_rows)(int64_t m, int64_t k, const uint8_t* x, ptrdiff_t row_stride, ptrdiff_t column_stride,
                    int32_t zero_point, int16_t* out);
  // Panels of the [k][n] matrix x[c * k_stride + j * n_stride] - zero_point.
  void (*pack_columns)(int64_t k, int64_t n, const uint8_t* x, ptrdiff_t k_stride, ptrdiff_t n_stride,
                       int32_t zero_point, int16_t* out);
  // c[i * c_stride + j] = sum of a and b over k2, for i < m and j < n rounded up to 16.
  void (*product)(int64_t m, int64_t n, int64_t k2, const int16_t* a, const int16_t* b, int32_t* c,
                  ptrdiff_t c_stride);
  // y = clamp(fma(f32(acc), multiplier, offset), lo, hi), rounded half to even for u8.
  void (*to_f32)(int64_t n, const int32_t* acc, float multiplier, float offset, float lo, float hi, float* y);
  void (*to_u8)(int64_t n, const int32_t* acc, float multiplier, float offset, float lo, float hi,
                uint8_t* y);
  void (*exp_codes)(const ExpCodes& rows);
};

const MatmulInt8Kernels* matmul_int8_kernels(int* count);

}  // namespace pyruntime
