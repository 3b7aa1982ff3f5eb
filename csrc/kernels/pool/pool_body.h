// The pooling kernels, once: each ISA source includes this file and the compiler vectorizes the loops over
// channels. A block of channels stays in the L1 cache while the pixels are folded into it, four at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

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

// f(k), f(k + 1), ... f(k + size - 1).
template <int size, class Function>
inline void channel_block(int k, Function f) {
// GCC would unroll 16 steps into scalars before it vectorizes (5x slower at 32 channels).
#pragma GCC unroll 1
  PYRUNTIME_IVDEP
  for (int j = 0; j < size; ++j) f(k + j);
}

// f(k) for all channels k. Blocks of a constant size need no tail code that a short pixel would run through:
// 64 bytes fill the widest vector, 16 the narrowest, 8 are what is left of most numbers of channels.
template <class Function>
inline void each_channel(int channels, Function f) {
  int k = 0;
  for (; k + 64 <= channels; k += 64) channel_block<64>(k, f);
  for (; k + 16 <= channels; k += 16) channel_block<16>(k, f);
  if (k + 8 <= channels) {
    channel_block<8>(k, f);
    k += 8;
  }
  PYRUNTIME_IVDEP
  for (; k < channels; ++k) f(k);
}

// y[c] = f(... f(f(y[c], x[0][c]), x[1][c]) ..., x[count - 1][c]), cells `at` values after x[i].
template <class T, class Function>
void fold(const T* const* x, ptrdiff_t at, int count, int channels, T* y, Function f) {
  int i = 0;
  for (; i + 4 <= count; i += 4) {
    const T *a = x[i] + at, *b = x[i + 1] + at, *c = x[i + 2] + at, *d = x[i + 3] + at;
    PYRUNTIME_IVDEP
    for (int k = 0; k < channels; ++k) y[k] = f(f(f(f(y[k], a[k]), b[k]), c[k]), d[k]);
  }
  for (; i < count; ++i) {
    const T* a = x[i] + at;
    PYRUNTIME_IVDEP
    for (int k = 0; k < channels; ++k) y[k] = f(y[k], a[k]);
  }
}

// The usual windows, 2x2 and 3x3, take one pass over the channels.
template <class T>
void max_2x2(const PoolRun& run, const T* const* x, T* y) {
  const T *a = x[0], *b = x[1], *c = x[2], *d = x[3];
  const int channels = run.channels;
  const ptrdiff_t x_step = run.x_step, y_step = run.y_step;
  const Max f;
  ptrdiff_t at = 0;
  for (int p = run.pixels; p > 0; --p, at += x_step, y += y_step)
    each_channel(channels, [=](int k) {
      const ptrdiff_t i = at + k;
      y[k] = f(f(f(a[i], b[i]), c[i]), d[i]);
    });
}

template <class T>
void max_3x3(const PoolRun& run, const T* const* x, T* y) {
  const T *a = x[0], *b = x[1], *c = x[2], *d = x[3], *e = x[4], *g = x[5], *h = x[6], *m = x[7], *n = x[8];
  const int channels = run.channels;
  const ptrdiff_t x_step = run.x_step, y_step = run.y_step;
  const Max f;
  ptrdiff_t at = 0;
  for (int p = run.pixels; p > 0; --p, at += x_step, y += y_step)
    each_channel(channels, [=](int k) {
      const ptrdiff_t i = at + k;
      const T first = f(f(f(f(a[i], b[i]), c[i]), d[i]), e[i]);
      y[k] = f(f(f(f(first, g[i]), h[i]), m[i]), n[i]);
    });
}

template <class T>
void max_pool(const PoolRun& run, const T* const* x, T* y) {
  if (run.count == 4) return max_2x2(run, x, y);
  if (run.count == 9) return max_3x3(run, x, y);
  const int channels = run.channels;  // a copy, which the stores of bytes cannot change
  ptrdiff_t at = 0;
  for (int p = 0; p < run.pixels; ++p, at += run.x_step, y += run.y_step) {
    const T* first = x[0] + at;
    PYRUNTIME_IVDEP
    for (int k = 0; k < channels; ++k) y[k] = settle(first[k]);
    fold(x + 1, at, run.count - 1, channels, y, Max());
  }
}

void max_u8(const PoolRun& run, const uint8_t* const* x, uint8_t* y) { max_pool(run, x, y); }

void max_f32(const PoolRun& run, const float* const* x, float* y) { max_pool(run, x, y); }

void average_f32(const PoolRun& run, const float* const* x, float divisor, float* y) {
  ptrdiff_t at = 0;
  for (int p = 0; p < run.pixels; ++p, at += run.x_step, y += run.y_step) {
    for (int k = 0; k < run.channels; ++k) y[k] = 0.0f;
    fold(x, at, run.count, run.channels, y, Sum());
    for (int k = 0; k < run.channels; ++k) y[k] = y[k] / divisor;
  }
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

// Sums the pixels pixel(0) to pixel(count - 1) of kBlock or fewer channels; Width is int, or a constant.
template <class Pixel, class Width>
void average_block(Pixel pixel, int count, Width channels, int32_t zero_point_x, float multiplier,
                   float zero_point_y, uint8_t* y) {
  const int width = channels;
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
    const auto block = [=](int i) { return pixel(i) + c; };
    const int width = channels - c;
    if (width >= kBlock) {
      average_block(block, count, std::integral_constant<int, kBlock>(), zero_point_x, multiplier,
                    zero_point_y, y + c);
    } else {
      average_block(block, count, width, zero_point_x, multiplier, zero_point_y, y + c);
    }
  }
}

void average_u8(const PoolRun& run, const uint8_t* const* x, int32_t zero_point_x, float multiplier,
                float zero_point_y, uint8_t* y) {
  ptrdiff_t at = 0;
  for (int p = 0; p < run.pixels; ++p, at += run.x_step, y += run.y_step)
    average_pixels([=](int i) { return x[i] + at; }, run.count, run.channels, zero_point_x, multiplier,
                   zero_point_y, y);
}

void global_average_u8(const uint8_t* x, ptrdiff_t pitch, int pixels, int channels, int32_t zero_point_x,
                       float multiplier, float zero_point_y, uint8_t* y) {
  average_pixels([=](int i) { return x + i * pitch; }, pixels, channels, zero_point_x, multiplier,
                 zero_point_y, y);
}

}  // namespace
}  // namespace pyruntime
