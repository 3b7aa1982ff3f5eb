// Layer normalization of rows of n values (docs/format.md, layer_norm). All rows give the same bits: both
// sums are taken as 16 partial sums, partial l takes elements l, l + 16, ... in order, then partial l +=
// partial l + 8, l + 4, l + 2, l + 1.
//   mean = (sum x) / n; d = x - mean; inv = 1 / sqrt((sum d * d, as fma) / n + epsilon)
//   y = fma(d * inv, scale, bias)
#pragma once

#include <cstddef>

#include "base/isa.h"

namespace pyruntime {

struct LayerNormKernel {
  const char* name;
  Isa isa;
  // x and y are [rows][n], scale and bias have n entries. y may be x.
  void (*run)(size_t rows, size_t n, const float* x, const float* scale, const float* bias, float epsilon,
              float* y);
};

const LayerNormKernel* layer_norm_kernels(int* count);

}  // namespace pyruntime
