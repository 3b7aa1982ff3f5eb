// float32 depthwise convolution, channels-last: acc = bias[c]; for i, for j: acc = fma(x, w, acc); y =
// clamp(acc, lo, hi). Addressing as in depthwise_int8.h, strides in bytes; the halo holds 0; order of the sum
// as in conv_f32.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/isa.h"

namespace pyruntime {

struct DepthwiseF32Args {
  const float* x = nullptr;
  ptrdiff_t x_row_stride = 0, x_col_stride = 0, tap_row_stride = 0, tap_col_stride = 0;
  int kh = 1, kw = 1;
  int rows = 1, cols = 0;
  int channels = 0, channel_begin = 0, channel_end = 0;
  const float* w = nullptr;  // [kh][kw][channels]: no packing needed
  float* y = nullptr;
  ptrdiff_t y_row_stride = 0, y_col_stride = 0;
  const float* bias = nullptr;  // [channels], never null
  float lo = 0.0f, hi = 0.0f;
};

struct DepthwiseF32Kernel {
  const char* name;
  Isa isa;
  void (*run)(const DepthwiseF32Args&);
};

const DepthwiseF32Kernel* depthwise_f32_kernels(int* count);
void depthwise_f32_reference(const DepthwiseF32Args& args);

}  // namespace pyruntime
