// Pooling, channels-last, of a run of output pixels whose windows have the same cells: cell i of the first
// window starts at x[i], that of each further pixel x_step values later. Per pixel:
//   max_u8, max_f32:  y[c] = max over i of x[i][c]           (count >= 1; a NaN wins; f32: -0 becomes 0)
//   average_u8:       y[c] = clamp(rne(fma(f32(sum_i x[i][c] - count * zero_point_x), multiplier,
//                            zero_point_y)), 0, 255)
//   average_f32:      y[c] = (sum_i x[i][c], i ascending from 0) / divisor
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/isa.h"

namespace pyruntime {

struct PoolRun {
  int count, channels;       // cells of a window, contiguous values of a cell
  int pixels;                // of the output
  ptrdiff_t x_step, y_step;  // from pixel to pixel, in values
};

struct PoolKernels {
  const char* name;
  Isa isa;
  void (*max_u8)(const PoolRun& run, const uint8_t* const* x, uint8_t* y);
  void (*max_f32)(const PoolRun& run, const float* const* x, float* y);
  void (*average_u8)(const PoolRun& run, const uint8_t* const* x, int32_t zero_point_x, float multiplier,
                     float zero_point_y, uint8_t* y);
  void (*average_f32)(const PoolRun& run, const float* const* x, float divisor, float* y);
  // Global average of one image: `pixels` rows of `channels` bytes, `pitch` bytes apart.
  void (*global_average_u8)(const uint8_t* x, ptrdiff_t pitch, int pixels, int channels, int32_t zero_point_x,
                            float multiplier, float zero_point_y, uint8_t* y);
};

const PoolKernels* pool_kernels(int* count);
const PoolKernels& pool_reference();  // the specification, used by tests only

}  // namespace pyruntime
