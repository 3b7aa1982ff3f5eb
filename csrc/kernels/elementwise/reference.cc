// The specification of the element-wise kernels (docs/format.md). Integer and simple float operators are
// exact to the bit; transcendental functions are float64 results rounded once, which kernels approach within
// a stated tolerance.
#include <cmath>

#include "kernels/elementwise/elementwise.h"

namespace pyruntime {
namespace {

float clamp(float v, float lo, float hi) {
  if (v < lo) return lo;
  if (v > hi) return hi;
  return v;  // NaN too
}

uint8_t round_u8(float f, float lo, float hi) {
  return static_cast<uint8_t>(clamp(std::nearbyint(f), lo, hi));
}

void add_u8(size_t n, const uint8_t* a, const uint8_t* b, int b_step, const AddU8Params& p, uint8_t* y) {
  for (size_t i = 0; i < n; ++i) {
    const float fa = a[i], fb = b[i * b_step];
    y[i] = round_u8(std::fma(fa, p.a_multiplier, std::fma(fb, p.b_multiplier, p.offset)), p.lo, p.hi);
  }
}

void mul_u8(size_t n, const uint8_t* a, const uint8_t* b, int b_step, const MulU8Params& p, uint8_t* y) {
  for (size_t i = 0; i < n; ++i) {
    const int32_t product = (a[i] - p.a_zero_point) * (b[i * b_step] - p.b_zero_point);
    y[i] = round_u8(std::fma(static_cast<float>(product), p.multiplier, p.offset), p.lo, p.hi);
  }
}

float binary(BinaryF32 op, float a, float b) {
  switch (op) {
    case BinaryF32::add:
      return a + b;
    case BinaryF32::sub:
      return a - b;
    case BinaryF32::mul:
      return a * b;
    case BinaryF32::div:
      return a / b;
    case BinaryF32::prelu:
      return (a < 0.0f ? a * b : a) + 0.0f;
  }
  return 0.0f;
}

void binary_f32(BinaryF32 op, size_t n, const float* a, const float* b, int b_step, float lo, float hi,
                float* y) {
  for (size_t i = 0; i < n; ++i) y[i] = clamp(binary(op, a[i], b[i * b_step]), lo, hi);
}

double unary(UnaryF32 op, double x, float alpha, float beta) {
  switch (op) {
    case UnaryF32::relu:
      return (x < 0.0 ? 0.0 : x) + 0.0;
    case UnaryF32::clip:
      return clamp(static_cast<float>(x), alpha, beta) + 0.0f;
    case UnaryF32::leaky_relu:
      return (x < 0.0 ? x * alpha : x) + 0.0;
    case UnaryF32::sigmoid:
      return 1.0 / (1.0 + std::exp(-x));
    case UnaryF32::hard_sigmoid:
      return clamp(std::fma(static_cast<float>(x), alpha, beta), 0.0f, 1.0f);
    case UnaryF32::hard_swish:
      return x * clamp(static_cast<float>(x / 6.0 + 0.5), 0.0f, 1.0f);
    case UnaryF32::tanh:
      return std::tanh(x);
    case UnaryF32::gelu:
      return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
    case UnaryF32::gelu_tanh: {
      constexpr double kSqrtTwoOverPi = 0.79788456080286535588;
      return 0.5 * x * (1.0 + std::tanh(kSqrtTwoOverPi * (x + 0.044715 * x * x * x)));
    }
    case UnaryF32::silu:
      return x * (1.0 / (1.0 + std::exp(-x)));
    case UnaryF32::exp:
      return std::exp(x);
    case UnaryF32::sqrt:
      return std::sqrt(static_cast<float>(x));
    case UnaryF32::erf:
      return std::erf(x);
    case UnaryF32::reciprocal:
      return 1.0f / static_cast<float>(x);
    case UnaryF32::neg:
    case UnaryF32::abs:
      break;
  }
  return 0.0;
}

void unary_f32(UnaryF32 op, size_t n, const float* x, float alpha, float beta, float* y) {
  for (size_t i = 0; i < n; ++i) {
    if (op == UnaryF32::neg)
      y[i] = -x[i];  // a change of the sign bit: subnormals stay
    else if (op == UnaryF32::abs)
      y[i] = std::fabs(x[i]);
    else
      y[i] = static_cast<float>(unary(op, x[i], alpha, beta));
  }
}

void mean_f32(size_t n, const float* x, ptrdiff_t stride, const int64_t* offsets, size_t count, float* y) {
  for (size_t i = 0; i < n; ++i) {
    float sum = 0.0f;
    for (size_t k = 0; k < count; ++k) sum += x[static_cast<ptrdiff_t>(i) * stride + offsets[k]];
    y[i] = sum / static_cast<float>(count);
  }
}

void softmax_f32(size_t n, const float* x, float* y) {
  double maximum = -INFINITY, sum = 0.0;
  for (size_t i = 0; i < n; ++i) maximum = std::fmax(maximum, x[i]);
  for (size_t i = 0; i < n; ++i) sum += std::exp(x[i] - maximum);
  for (size_t i = 0; i < n; ++i) y[i] = static_cast<float>(std::exp(x[i] - maximum) / sum);
}

}  // namespace

const ElementwiseKernels& elementwise_reference() {
  static const ElementwiseKernels row = {"reference", Isa::scalar, add_u8,      mul_u8,
                                         binary_f32,  unary_f32,   softmax_f32, mean_f32};
  return row;
}

}  // namespace pyruntime
