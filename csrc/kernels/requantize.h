// The one epilogue of all integer kernels (docs/format.md, operator `conv`).
//
//   f  = fma(f32(acc), multiplier[o], offset[o])
//   q1 = clamp(rne(f), lo, hi)
//   y  = q1                                                             without residual
//   y  = clamp(rne(fma(q1, a_multiplier, fma(f32(r), b_multiplier, add_offset))), add_lo, add_hi)   with
//   residual r f32 output (no residual): y = clamp(f, lo, hi), not rounded.
//
// Per-channel arrays are indexed by absolute output channel and readable up to the next multiple of 64
// channels (padding is finite), so kernels load whole vectors and mask only their stores.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pyruntime {

struct Requantize {
  const int32_t* acc_init = nullptr;  // [n] first value of the accumulator: -zero_point_x * sum(w[o])
  const float* multiplier = nullptr;  // [n]
  const float* offset = nullptr;      // [n]
  float lo = 0.0f, hi = 255.0f;       // whole numbers for u8 output; any for f32 output
  bool f32_output = false;
  const uint8_t* residual = nullptr;  // first pixel of the call, channel 0; null: none
  ptrdiff_t residual_row_stride = 0;  // bytes
  ptrdiff_t residual_col_stride = 0;  // bytes
  float a_multiplier = 1.0f, b_multiplier = 0.0f, add_offset = 0.0f, add_lo = 0.0f, add_hi = 255.0f;
};

}  // namespace pyruntime
