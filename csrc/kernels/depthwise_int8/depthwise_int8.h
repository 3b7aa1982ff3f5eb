// Integer depthwise convolution (groups = input channels = output channels), channels-last.
//
//   acc[p][c] = acc_init[c] + sum over (i, j) of x[p, i, j, c] * w[c, i, j];  y = requantize(acc)
//
// The input of tap (i, j) for output pixel (row, col), channel 0, is at
//   x + row * x_row_stride + col * x_col_stride + i * tap_row_stride + j * tap_col_stride       (bytes)
// Same obligations as conv_int8.h (halo filled with the zero point, 64 readable bytes of slack on both
// sides). When stride and dilation are 1, x_col_stride == tap_col_stride and kernels may reuse columns
// between pixels. channel_begin is a multiple of 64; channel_end is one too, or equals channels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/isa.h"
#include "kernels/requantize.h"

namespace pyruntime {

struct DepthwiseInt8Args {
  const uint8_t* x = nullptr;
  ptrdiff_t x_row_stride = 0, x_col_stride = 0, tap_row_stride = 0, tap_col_stride = 0;
  int kh = 1, kw = 1;
  int rows = 1, cols = 0;
  int channels = 0;
  int channel_begin = 0, channel_end = 0;
  const void* w = nullptr;  // what pack() wrote
  void* y = nullptr;
  ptrdiff_t y_row_stride = 0, y_col_stride = 0;
  Requantize requantize;
};

struct DepthwiseInt8Kernel {
  const char* name;
  Isa isa;
  bool (*supports)(int kh, int kw);  // rows are tried strongest ISA first, in the order of kernels.inc
  size_t (*packed_bytes)(int channels, int kh, int kw);
  void (*pack)(const int8_t* w /* [channels][kh][kw] */, int channels, int kh, int kw, void* packed);
  void (*run)(const DepthwiseInt8Args&);
};

const DepthwiseInt8Kernel* depthwise_int8_kernels(int* count);
void depthwise_int8_reference(const DepthwiseInt8Args& args, const int8_t* w);

}  // namespace pyruntime
