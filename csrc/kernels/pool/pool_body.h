// The pooling kernels, once: each ISA source includes this file and the compiler vectorizes the loops over
// channels. A block of channels stays in the L1 cache while the pixels are folded into it, four at a time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ivdep.h"
#include "kernels/pool/pool.h"

namespace pyruntime {
namespace {

// Whether a selection of a subnormal flushes it depends on the instruction the compiler takes; this addition
// always does (where flushing is on), and turns -0 into 0, so that a maximum does not depend on the order.
inline float settle(float v) { return v + 0.0f; }
inline uint8_t settle(uint8_t v) { return v; }

// A NaN on either side wins: as `b` because the comparison with it is false, as `a` by the test of it. Nested
// selects, since the loops do not vectorize with `||`.
struct Max {
  uint8_t operator()(uint8_t a, uint8_t b) const { return a > b ? a : b; }
  float operator()(float a, float b) const {
    const float larger = a > b ? a : b;
    return settle(a != a ? a : larger);
  }
};

struct Sum {
  float operator()(float a, float b) const { return a + b; }
};

// y[c] = f(... f(f(y[c], x[0][c]), x[1][c]) ..., x[count - 1][c])
template <class T, class Function>
void fold(const T* const* x, int count, int channels, T* y, Function f) {
  int i = 0;
  for (; i + 4 <= count; i += 4) {
    const T *a = x[i], *b = x[i + 1], *c = x[i + 2], *d = x[i + 3];
    PYRUNTIME_IVDEP
    for (int k = 0; k < channels; ++k) y[k] = f(f(f(f(y[k], a[k]), b[k]), c[k]), d[k]);
  }
  for (; i < count; ++i) {
    const T* a = x[i];
    PYRUNTIME_IVDEP
    for (int k = 0; k < channels; ++k) y[k] = f(y[k], a[k]);
  }
}

template <class T>
void max_pool(const T* const* x, int count, int channels, T* y) {
  const Max f;
  if (count == 9) {  // 3x3, the usual window: one pass
    const T *a = x[0], *b = x[1], *c = x[2], *d = x[3], *e = x[4], *g = x[5], *h = x[6], *i = x[7], *j = x[8];
    PYRUNTIME_IVDEP
    for (int k = 0; k < channels; ++k) {
      const T first = f(f(f(f(a[k], b[k]), c[k]), d[k]), e[k]);
      y[k] = f(f(f(f(first, g[k]), h[k]), i[k]), j[k]);
    }
    return;
  }
  const T* first = x[0];
  PYRUNTIME_IVDEP
  for (int k = 0; k < channels; ++k) y[k] = settle(first[k]);
  fold(x + 1, count - 1, channels, y, f);
}

void max_u8(const uint8_t* const* x, int count, int channels, uint8_t* y) { max_pool(x, count, channels, y); }

void max_f32(const float* const* x, int count, int channels, float* y) { max_pool(x, count, channels, y); }

void average_f32(const float* const* x, int count, int channels, float divisor, float* y) {
  for (int k = 0; k < channels; ++k) y[k] = 0.0f;
  fold(x, count, channels, y, Sum());
  for (int k = 0; k < channels; ++k) y[k] = y[k] / divisor;
}

// Clamps before it rounds (the bounds are whole); 1.5 * 2^23 leaves the rounded value in the low bits.
inline uint8_t requantize_sum(int32_t sum, float multiplier, float zero_point_y) {
  float f = __builtin_fmaf(static_cast<float>(sum), multiplier, zero_point_y);
  f = f < 0.0f ? 0.0f : f;
  f = f > 255.0f ? 255.0f : f;
  f += 12582912.0f;
  uint32_t bits;
  __builtin_memcpy(&bits, &f, sizeof(bits));
  return static_cast<uint8_t>(bits);
}

constexpr int kBlock = 128;             // channels summed at a time
constexpr int kPixelsPerPartial = 256;  // 256 * 255 fits 16 bits

// Sums pixels first..last-1, given by pixel(i), of kBlock or fewer channels.
template <class Pixel>
void average_block(Pixel pixel, int count, int width, int32_t zero_point_x, float multiplier,
                   float zero_point_y, uint8_t* y) {
  int32_t sum[kBlock];
  for (int k = 0; k < kBlock; ++k) sum[k] = -count * zero_point_x;
  for (int begin = 0; begin < count; begin += kPixelsPerPartial) {
    const int end = count - begin < kPixelsPerPartial ? count : begin + kPixelsPerPartial;
    uint16_t partial[kBlock] = {};
    int i = begin;
    for (; i + 4 <= end; i += 4) {
      const uint8_t *a = pixel(i), *b = pixel(i + 1), *c = pixel(i + 2), *d = pixel(i + 3);
      for (int k = 0; k < width; ++k)
        partial[k] = static_cast<uint16_t>(partial[k] + a[k] + b[k] + c[k] + d[k]);
    }
    for (; i < end; ++i) {
      const uint8_t* a = pixel(i);
      for (int k = 0; k < width; ++k) partial[k] = static_cast<uint16_t>(partial[k] + a[k]);
    }
    for (int k = 0; k < width; ++k) sum[k] += partial[k];
  }
  for (int k = 0; k < width; ++k) y[k] = requantize_sum(sum[k], multiplier, zero_point_y);
}

template <class Pixel>
void average_pixels(Pixel pixel, int count, int channels, int32_t zero_point_x, float multiplier,
                    float zero_point_y, uint8_t* y) {
  for (int c = 0; c < channels; c += kBlock) {
    const int width = channels - c < kBlock ? channels - c : kBlock;
    average_block([=](int i) { return pixel(i) + c; }, count, width, zero_point_x, multiplier, zero_point_y,
                  y + c);
  }
}

void average_u8(const uint8_t* const* x, int count, int channels, int32_t zero_point_x, float multiplier,
                float zero_point_y, uint8_t* y) {
  average_pixels([=](int i) { return x[i]; }, count, channels, zero_point_x, multiplier, zero_point_y, y);
}

void global_average_u8(const uint8_t* x, ptrdiff_t pitch, int pixels, int channels, int32_t zero_point_x,
                       float multiplier, float zero_point_y, uint8_t* y) {
  average_pixels([=](int i) { return x + i * pitch; }, pixels, channels, zero_point_x, multiplier,
                 zero_point_y, y);
}

}  // namespace
}  // namespace pyruntime
