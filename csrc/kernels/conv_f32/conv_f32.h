// float32 convolution and dense layers, channels-last; the layers a recipe keeps in float and the float
// baseline.
//
//   acc = bias[o]; for t, for c in ascending order: acc = fma(x[p, t, c], w[o, t, c], acc)
//   y   = clamp(acc + residual, lo, hi)       (the sum is skipped without residual; NaN passes the clamp)
//
// The order of the sum is part of the contract: results are bit-identical on every ISA because kernels
// vectorize over output channels and pixels only. Addressing as in conv_int8.h, with all strides and offsets
// in bytes. The halo holds 0. Kernels read exactly k channels of a tap (a float over-read could be NaN). bias
// is readable up to the next multiple of 64 channels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/isa.h"

namespace pyruntime {

// Weights beyond this are read once for as many pixels as suit the caches, not for every few.
constexpr size_t kConvF32WeightsInL2 = 512 * 1024;

struct ConvF32Args {
  const float* x = nullptr;
  ptrdiff_t x_row_stride = 0, x_col_stride = 0;
  const int32_t* tap_offset = nullptr;
  int taps = 1, k = 0;
  int rows = 1, cols = 0;
  const void* w = nullptr;
  int n = 0, n_begin = 0, n_end = 0;
  float* y = nullptr;
  ptrdiff_t y_row_stride = 0, y_col_stride = 0;
  const float* bias = nullptr;      // [n], never null
  const float* residual = nullptr;  // pixel (0, 0), channel 0; null: none
  ptrdiff_t residual_row_stride = 0, residual_col_stride = 0;
  float lo = 0.0f, hi = 0.0f;  // -inf, inf: no clamp
};

struct ConvF32Kernel {
  const char* name;
  Isa isa;
  int n_block;  // n_begin is a multiple of it
  size_t (*packed_bytes)(int n, int taps, int k);
  void (*pack)(const float* w /* [n][taps][k] */, int n, int taps, int k, void* packed);
  void (*pack_matrix)(const float* w /* [k][n] */, int n, int k, void* packed);  // the same for one tap
  void (*run)(const ConvF32Args&);
};

const ConvF32Kernel* conv_f32_kernels(int* count);
void conv_f32_reference(const ConvF32Args& args, const float* w);

}  // namespace pyruntime
