// Element-wise operators on contiguous runs. `b_step` is 1 (b has n values) or 0 (b is one value for the
// whole run). Formulas: docs/format.md, operators add, mul, sub, div, unary, prelu.
//
// All rows give the same bits, transcendental functions included (float_math.h): exp within 2 ulp, the others
// within 1e-6 relative or absolute of the real value. relu, clip, leaky_relu and prelu give 0 for -0.
// Infinities follow the formula in IEEE arithmetic: silu(-inf) = -inf * 0 = NaN, as do gelu, gelu_tanh and
// hard_swish.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/isa.h"

namespace pyruntime {

struct AddU8Params {
  float a_multiplier, b_multiplier, offset, lo, hi;
};
struct MulU8Params {
  int32_t a_zero_point, b_zero_point;
  float multiplier, offset, lo, hi;
};
enum class BinaryF32 { add, sub, mul, div, prelu };
enum class UnaryF32 {
  relu,
  clip,
  leaky_relu,
  sigmoid,
  hard_sigmoid,
  hard_swish,
  tanh,
  gelu,
  gelu_tanh,
  silu,
  exp,
  sqrt,
  erf,
  neg,
  abs,
  reciprocal
};

struct ElementwiseKernels {
  const char* name;
  Isa isa;
  void (*add_u8)(size_t n, const uint8_t* a, const uint8_t* b, int b_step, const AddU8Params& p, uint8_t* y);
  void (*mul_u8)(size_t n, const uint8_t* a, const uint8_t* b, int b_step, const MulU8Params& p, uint8_t* y);
  // y = clamp(a op b, lo, hi); lo = -inf, hi = inf: no clamp. NaN passes.
  void (*binary_f32)(BinaryF32 op, size_t n, const float* a, const float* b, int b_step, float lo, float hi,
                     float* y);
  // alpha, beta: clip lo, hi; leaky_relu alpha; hard_sigmoid alpha, beta. In place allowed.
  void (*unary_f32)(UnaryF32 op, size_t n, const float* x, float alpha, float beta, float* y);
  // One row: e[i] = exp(x[i] - max); y[i] = e[i] / sum. The order of the sum is fixed: 16 partial sums,
  // partial l takes e[l], e[l + 16], ... in order; then partial l += partial l + 8, l + 4, l + 2, l + 1. A
  // NaN makes the row NaN.
  void (*softmax_f32)(size_t n, const float* x, float* y);
  // n means of `count` values each, added up in order: those at x + i * stride + offsets[k], for y[i].
  void (*mean_f32)(size_t n, const float* x, ptrdiff_t stride, const int64_t* offsets, size_t count,
                   float* y);
};

// Beyond these exp is 0 or infinite. Not visible to its callers: of constants GCC 12 makes four comparisons
// where two instructions do, with which exp took 1.36 (AVX2) and 1.13 (AVX-512) of the time.
extern const float kLeastExponent, kMostExponent;

const ElementwiseKernels* elementwise_kernels(int* count);
const ElementwiseKernels&
elementwise_reference();  // the specification (unary, softmax: float64 inside), tests only

}  // namespace pyruntime
