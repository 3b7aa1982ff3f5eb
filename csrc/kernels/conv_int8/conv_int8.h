// Integer convolution and dense layers: u8 activations x s8 weights -> exact s32 -> requantize.
//
//   acc[p][o] = acc_init[o] + sum over taps t, channels c of x[p, t, c] * w[o, t, c]
//   y[p][o]   = requantize(acc[p][o])                                            (kernels/requantize.h)
//
// Output pixels form a grid rows x cols; the input of tap t for pixel (r, c) starts at
//   x + r * x_row_stride + c * x_col_stride + tap_offset[t]
// and its k channels are contiguous. Activations are channels-last with a physical halo that holds the zero
// point, so no tap needs a bounds check. A dense layer is one tap, cols = batch rows. All strides and offsets
// are in bytes.
//
// Caller obligations
//  - 64 readable bytes before the first and after the last activation or residual touched: kernels read whole
//  groups of 4 or 64 channels; weights of the padding channels are zero, so what is read there does not
//  matter.
//  - y may not overlap x or the residual: kernels may compute a pixel twice. y holds u8 (1 byte) or f32 (4
//  bytes) per channel, channels contiguous.
//  - n_begin is a multiple of the kernel's n_block; n_end is one too, or equals n. |acc| stays below 2^31:
//  proved when
//    the weights are packed.
//  - scratch has scratch_bytes(args) bytes, 64-byte aligned, private to the calling thread.
//  - Rows of format winograd get taps in the order of a 3x3 window whose steps are those of the pixels
//    (ConvInt8Grid::window), and weights that fit (winograd.h).
//
// Kernels are pure: no allocation, no threads, no exceptions, no globals. Weights are packed once per plan by
// the row's own pack(), from the dense matrix [n][taps][k]; sparse rows find the zeros themselves, rows of 4
// bits the levels (int4.h says which weights have any; pack() may be called for those alone).
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/isa.h"
#include "kernels/requantize.h"

namespace pyruntime {

struct ConvInt8Args {
  const uint8_t* x = nullptr;
  ptrdiff_t x_row_stride = 0, x_col_stride = 0;
  const int32_t* tap_offset = nullptr;  // [taps]
  int taps = 1;
  int k = 0;  // channels per tap
  int rows = 1, cols = 0;
  const void* w = nullptr;     // what pack() wrote, whole layer
  int n = 0;                   // output channels of the layer
  int n_begin = 0, n_end = 0;  // output channels to compute
  void* y = nullptr;           // pixel (0, 0), channel 0
  ptrdiff_t y_row_stride = 0, y_col_stride = 0;
  Requantize requantize;
  void* scratch = nullptr;
};

// Dense weights of one layer, as handed to pack().
struct ConvInt8Weights {
  const int8_t* w = nullptr;  // [n][taps][k], C order
  int n = 0, taps = 1, k = 0;
};

// The pixels of a layer, as far as costs depend on them.
struct ConvInt8Grid {
  int64_t images = 1, rows = 1, cols = 1;
  // Tap 3 i + j of pixel (r, c) reads what tap 0 of pixel (r + i, c + j) reads.
  bool window = false;
  int64_t pixels() const { return images * rows * cols; }
};

enum class WeightFormat { dense, winograd, int4, block4, bitmask };

const char* weight_format_name(WeightFormat format);

struct ConvInt8Kernel {
  const char* name;  // <family>_<types>_<block>__<isa>
  Isa isa;
  // What it executes: every weight, windows of 3x3 transformed, every weight in 4 bits, nonzero 1x4 blocks,
  // nonzero weights.
  WeightFormat format;
  int n_block;      // granularity of n_begin / n_end
  int pixel_block;  // what whole tiles hold, so what a row of pixels is best cut into
  size_t (*packed_bytes)(const ConvInt8Weights&);
  void (*pack)(const ConvInt8Weights&, void* packed);  // packed is 64-byte aligned, packed_bytes() long
  size_t (*scratch_bytes)(const ConvInt8Args&);
  void (*run)(const ConvInt8Args&);
  // Estimated cycles of one core for the output pixels of the whole layer when the fraction `density` of
  // the units the format stores (weights or 1x4 blocks) is nonzero; the plan takes the cheapest usable row.
  // The weights may be null where they do not stand in memory in the order of the packing.
  double (*cost)(const ConvInt8Weights&, double density, const ConvInt8Grid& grid);
};

// All rows compiled into this build, in the order of kernels.inc; count receives their number.
const ConvInt8Kernel* conv_int8_kernels(int* count);

// Rows that tests run beside those: kernels whose instructions are emulated. Never for plans.
const ConvInt8Kernel* conv_int8_test_kernels(int* count);

// The specification: a plain loop nest, used by tests only. `w` is the dense [n][taps][k] array, not packed.
void conv_int8_reference(const ConvInt8Args& args, const int8_t* w);

}  // namespace pyruntime
