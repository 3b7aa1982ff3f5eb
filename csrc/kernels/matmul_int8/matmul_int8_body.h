// What all rows of matmul_int8 share: loops the compiler vectorizes for the ISA of the source that includes
// this file.
#pragma once

#include "kernels/elementwise/elementwise.h"
#include "kernels/ivdep.h"
#include "kernels/matmul_int8/matmul_int8.h"

namespace pyruntime {
namespace {

#include "kernels/elementwise/float_math.h"

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

}  // namespace
}  // namespace pyruntime
