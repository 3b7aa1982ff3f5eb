// The layer_norm kernel, once: each ISA source includes this file and the compiler vectorizes the loops over
// the 16 partial sums for its ISA.
#pragma once

#include "kernels/ivdep.h"
#include "kernels/layer_norm/layer_norm.h"

namespace pyruntime {
namespace {

constexpr size_t kLanes = 16;  // part of the contract, not of the ISA

inline float joined(float* part) {
  for (size_t step = kLanes / 2; step > 0; step /= 2)
    for (size_t l = 0; l < step; ++l) part[l] += part[l + step];
  return part[0];
}

void run_row(size_t n, const float* x, const float* scale, const float* bias, float epsilon, float* y) {
  const size_t whole = n / kLanes * kLanes;
  const float count = static_cast<float>(n);
  float part[kLanes] = {};
  for (size_t i = 0; i < whole; i += kLanes)
    for (size_t l = 0; l < kLanes; ++l) part[l] += x[i + l];
  for (size_t i = whole; i < n; ++i) part[i - whole] += x[i];
  const float mean = joined(part) / count;

  for (size_t l = 0; l < kLanes; ++l) part[l] = 0.0f;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t l = 0; l < kLanes; ++l) {
      const float d = x[i + l] - mean;
      part[l] = __builtin_fmaf(d, d, part[l]);
    }
  }
  for (size_t i = whole; i < n; ++i) {
    const float d = x[i] - mean;
    part[i - whole] = __builtin_fmaf(d, d, part[i - whole]);
  }
  const float inverse = 1.0f / __builtin_sqrtf(joined(part) / count + epsilon);
  PYRUNTIME_IVDEP
  for (size_t i = 0; i < n; ++i) y[i] = __builtin_fmaf((x[i] - mean) * inverse, scale[i], bias[i]);
}

void run(size_t rows, size_t n, const float* x, const float* scale, const float* bias, float epsilon,
         float* y) {
  for (size_t row = 0; row < rows; ++row) run_row(n, x + row * n, scale, bias, epsilon, y + row * n);
}

}  // namespace
}  // namespace pyruntime
