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

}  // namespace
}  // namespace pyruntime
