// The epilogue of kernels/requantize.h, one output at a time: the specification and the tails of the scalar
// rows.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/requantize.h"

namespace pyruntime {

// NaN gives lo, as the vector instructions max(v, lo) and min(v, hi) do.
[[gnu::always_inline]] static inline float requantize_clamp(float v, float lo, float hi) {
  v = v > lo ? v : lo;
  return v < hi ? v : hi;
}

// __builtin_rintf rounds half to even in the default rounding mode. A whole bound commutes with the rounding,
// so the clamp may come first; then the conversion to an integer cannot overflow.
[[gnu::always_inline]] static inline float requantize_value(const Requantize& q, int32_t acc, int channel) {
  const float f = __builtin_fmaf(static_cast<float>(acc), q.multiplier[channel], q.offset[channel]);
  const float clamped = requantize_clamp(f, q.lo, q.hi);
  return q.f32_output ? clamped : __builtin_rintf(clamped);
}

// Writes channel `channel` of one pixel; y and residual point at channel 0 of that pixel.
[[gnu::always_inline]] static inline void requantize_store(const Requantize& q, int32_t acc, int channel,
                                                           const uint8_t* residual, void* y) {
  const float q1 = requantize_value(q, acc, channel);
  if (q.f32_output) {
    static_cast<float*>(y)[channel] = q1;
    return;
  }
  float result = q1;
  if (residual != nullptr) {
    const float other = __builtin_fmaf(static_cast<float>(residual[channel]), q.b_multiplier, q.add_offset);
    result = __builtin_rintf(requantize_clamp(__builtin_fmaf(q1, q.a_multiplier, other), q.add_lo, q.add_hi));
  }
  static_cast<uint8_t*>(y)[channel] = static_cast<uint8_t>(result);
}

}  // namespace pyruntime
