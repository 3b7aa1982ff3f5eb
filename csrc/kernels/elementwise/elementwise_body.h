// The element-wise kernels, once: each ISA source includes this file and the compiler vectorizes the loops
// for its ISA. Everything sits in an anonymous namespace, so no ISA can end up with another one's code.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/elementwise/elementwise.h"
#include "kernels/ivdep.h"

// The loops read index i of each input before they write index i, so y may equal an input (in place).
namespace pyruntime {
namespace {

#include "kernels/elementwise/float_math.h"

// lo and hi are whole numbers in 0..255, so clamping before rounding gives the same result.
inline uint8_t round_u8(float f, float lo, float hi) {
  return static_cast<uint8_t>(bits_of(clamp_f32(f, lo, hi) + kRound));
}

void add_u8(size_t n, const uint8_t* a, const uint8_t* b, int b_step, const AddU8Params& params, uint8_t* y) {
  const AddU8Params p = params;
  if (b_step == 0) {
    if (n == 0) return;
    const float constant = fma_f32(static_cast<float>(b[0]), p.b_multiplier, p.offset);
    PYRUNTIME_IVDEP
    for (size_t i = 0; i < n; ++i)
      y[i] = round_u8(fma_f32(static_cast<float>(a[i]), p.a_multiplier, constant), p.lo, p.hi);
    return;
  }
  PYRUNTIME_IVDEP
  for (size_t i = 0; i < n; ++i) {
    const float right = fma_f32(static_cast<float>(b[i]), p.b_multiplier, p.offset);
    y[i] = round_u8(fma_f32(static_cast<float>(a[i]), p.a_multiplier, right), p.lo, p.hi);
  }
}

void mul_u8(size_t n, const uint8_t* a, const uint8_t* b, int b_step, const MulU8Params& params, uint8_t* y) {
  const MulU8Params p = params;
  if (b_step == 0) {
    if (n == 0) return;
    const int32_t right = b[0] - p.b_zero_point;
    PYRUNTIME_IVDEP
    for (size_t i = 0; i < n; ++i)
      y[i] = round_u8(fma_f32(static_cast<float>((a[i] - p.a_zero_point) * right), p.multiplier, p.offset),
                      p.lo, p.hi);
    return;
  }
  PYRUNTIME_IVDEP
  for (size_t i = 0; i < n; ++i) {
    const int32_t product = (a[i] - p.a_zero_point) * (b[i] - p.b_zero_point);
    y[i] = round_u8(fma_f32(static_cast<float>(product), p.multiplier, p.offset), p.lo, p.hi);
  }
}

// Functions that only select (relu, clip, leaky_relu, prelu) add 0: whether a selection flushes a subnormal
// depends on the instruction the compiler takes, an addition always does where flushing is on. It turns -0
// into 0.
template <class Function>
void map_binary(size_t n, const float* a, const float* b, int b_step, float lo, float hi, float* y,
                Function f) {
  if (b_step == 0) {
    if (n == 0) return;
    const float right = b[0];
    PYRUNTIME_IVDEP
    for (size_t i = 0; i < n; ++i) y[i] = clamp_f32(f(a[i], right), lo, hi);
    return;
  }
  PYRUNTIME_IVDEP
  for (size_t i = 0; i < n; ++i) y[i] = clamp_f32(f(a[i], b[i]), lo, hi);
}

void binary_f32(BinaryF32 op, size_t n, const float* a, const float* b, int b_step, float lo, float hi,
                float* y) {
  switch (op) {
    case BinaryF32::add:
      return map_binary(n, a, b, b_step, lo, hi, y, [](float p, float q) { return p + q; });
    case BinaryF32::sub:
      return map_binary(n, a, b, b_step, lo, hi, y, [](float p, float q) { return p - q; });
    case BinaryF32::mul:
      return map_binary(n, a, b, b_step, lo, hi, y, [](float p, float q) { return p * q; });
    case BinaryF32::div:
      return map_binary(n, a, b, b_step, lo, hi, y, [](float p, float q) { return p / q; });
    case BinaryF32::prelu:
      return map_binary(n, a, b, b_step, lo, hi, y,
                        [](float p, float q) { return (p < 0.0f ? p * q : p) + 0.0f; });
  }
}

template <class Function>
void map_unary(size_t n, const float* x, float* y, Function f) {
  PYRUNTIME_IVDEP
  for (size_t i = 0; i < n; ++i) y[i] = f(x[i]);
}

void unary_f32(UnaryF32 op, size_t n, const float* x, float alpha, float beta, float* y) {
  switch (op) {
    case UnaryF32::relu:
      return map_unary(n, x, y, [](float v) { return (v < 0.0f ? 0.0f : v) + 0.0f; });
    case UnaryF32::clip:
      return map_unary(n, x, y, [=](float v) { return clamp_f32(v, alpha, beta) + 0.0f; });
    case UnaryF32::leaky_relu:
      return map_unary(n, x, y, [=](float v) { return (v < 0.0f ? v * alpha : v) + 0.0f; });
    case UnaryF32::sigmoid:
      return map_unary(n, x, y, sigmoid_f32);
    case UnaryF32::hard_sigmoid:
      return map_unary(n, x, y, [=](float v) { return hard_sigmoid_f32(v, alpha, beta); });
    case UnaryF32::hard_swish:
      return map_unary(n, x, y, [](float v) { return v * hard_sigmoid_f32(v, 0.166666672f, 0.5f); });
    case UnaryF32::tanh:
      return map_unary(n, x, y, tanh_f32);
    case UnaryF32::gelu:
      return map_unary(n, x, y, gelu_f32);
    case UnaryF32::gelu_tanh:
      return map_unary(n, x, y, gelu_tanh_f32);
    case UnaryF32::silu:
      return map_unary(n, x, y, [](float v) { return v * sigmoid_f32(v); });
    case UnaryF32::exp:
      return map_unary(n, x, y, exp_f32);
    case UnaryF32::sqrt:
      return map_unary(n, x, y, [](float v) { return __builtin_sqrtf(v); });
    case UnaryF32::erf:
      return map_unary(n, x, y, erf_f32);
    case UnaryF32::neg:
      return map_unary(n, x, y, [](float v) { return -v; });
    case UnaryF32::abs:
      return map_unary(n, x, y, [](float v) { return __builtin_fabsf(v); });
    case UnaryF32::reciprocal:
      return map_unary(n, x, y, [](float v) { return 1.0f / v; });
  }
}

constexpr int kLanes = 16;  // part of the contract of softmax_f32, not of the ISA

void softmax_f32(size_t n, const float* x, float* y) {
  const size_t whole = n / kLanes * kLanes;
  const float maximum = row_maximum(n, x);
  PYRUNTIME_IVDEP
  for (size_t i = 0; i < n; ++i) y[i] = exp_f32(x[i] - maximum);

  float part[kLanes] = {};
  for (size_t i = 0; i < whole; i += kLanes)
    for (int l = 0; l < kLanes; ++l) part[l] += y[i + l];
  for (size_t i = whole; i < n; ++i) part[i - whole] += y[i];
  for (int step = kLanes / 2; step > 0; step /= 2)
    for (int l = 0; l < step; ++l) part[l] += part[l + step];

  const float sum = part[0];
  PYRUNTIME_IVDEP
  for (size_t i = 0; i < n; ++i) y[i] = y[i] / sum;
}

// kCount means, whose sums stay in registers: in order each addition waits for the one before.
template <int kCount>
[[gnu::always_inline]] inline void means(const float* x, ptrdiff_t stride, const int64_t* offsets,
                                         size_t count, float* y) {
  float sum[kCount] = {};
  for (size_t k = 0; k < count; ++k) {
    const float* from = x + offsets[k];
    for (int l = 0; l < kCount; ++l) sum[l] += from[l * stride];
  }
  for (int l = 0; l < kCount; ++l) y[l] = sum[l] / static_cast<float>(count);
}

void mean_f32(size_t n, const float* x, ptrdiff_t stride, const int64_t* offsets, size_t count, float* y) {
  size_t i = 0;
  if (stride == 1) {
    for (; i + 64 <= n; i += 64) means<64>(x + i, 1, offsets, count, y + i);
    for (; i + 16 <= n; i += 16) means<16>(x + i, 1, offsets, count, y + i);
  }
  const auto at = [&](size_t mean) { return x + static_cast<ptrdiff_t>(mean) * stride; };
  for (; i + 8 <= n; i += 8) means<8>(at(i), stride, offsets, count, y + i);
  for (; i < n; ++i) means<1>(at(i), stride, offsets, count, y + i);
}

}  // namespace
}  // namespace pyruntime
