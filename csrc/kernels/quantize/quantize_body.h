// The quantize kernels, once: each ISA source includes this file and the compiler vectorizes the loops for
// its ISA.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ivdep.h"
#include "kernels/quantize/quantize.h"

namespace pyruntime {
namespace {

// Quantizes with the clamp before the rounding: its bounds -zero_point and 255 - zero_point are whole
// numbers, so the result is the same. Adding 1.5 * 2^23 then leaves the rounded value (half to even) in the
// low bits. A comparison with NaN is false, so NaN becomes the lower bound.
struct Quantizer {
  float scale, lo, hi;
  uint32_t zero_point;

  Quantizer(float s, int32_t z)
      : scale(s),
        lo(static_cast<float>(-z)),
        hi(static_cast<float>(255 - z)),
        zero_point(static_cast<uint32_t>(z)) {}

  uint32_t operator()(float x) const {
    float t = x / scale;
    t = t > lo ? t : lo;
    t = t < hi ? t : hi;
    t += 12582912.0f;
    uint32_t bits;
    __builtin_memcpy(&bits, &t, sizeof(bits));
    return (bits + zero_point) & 0xFFu;
  }
};

void quantize(size_t n, const float* x, float scale, int32_t zero_point, uint8_t flip, uint8_t* y) {
  const Quantizer q(scale, zero_point);
  PYRUNTIME_IVDEP
  for (size_t i = 0; i < n; ++i) y[i] = static_cast<uint8_t>(q(x[i]) ^ flip);
}

void dequantize(size_t n, const uint8_t* x, float scale, int32_t zero_point, uint8_t flip, float* y) {
  PYRUNTIME_IVDEP
  for (size_t i = 0; i < n; ++i)
    y[i] = static_cast<float>(static_cast<int32_t>(x[i] ^ flip) - zero_point) * scale;
}

constexpr size_t kPixels = 64;  // pixels of one block: a block of quantized planes stays in the L1 cache

// Up to 4 planes: the bytes of a pixel meet in one 32-bit word.
template <int kChannels>
void few_planes(size_t n, const float* x, ptrdiff_t plane_stride, const Quantizer& q, uint8_t* y,
                ptrdiff_t y_pitch) {
  uint32_t words[kPixels];
  for (size_t begin = 0; begin < n; begin += kPixels) {
    const size_t count = n - begin < kPixels ? n - begin : kPixels;
    const float* p = x + begin;
    for (size_t i = 0; i < count; ++i) {
      uint32_t word = 0;
      for (int c = 0; c < kChannels; ++c)
        word |= q(p[c * plane_stride + static_cast<ptrdiff_t>(i)]) << (8 * c);
      words[i] = word;
    }
    size_t i = 0;
    if (kChannels == 3 && y_pitch == 3)  // one store a pixel: the next pixel overwrites the fourth byte
      for (; i + 1 < count; ++i, y += y_pitch) __builtin_memcpy(y, &words[i], 4);
    for (; i < count; ++i, y += y_pitch) __builtin_memcpy(y, &words[i], kChannels);
  }
}

void many_planes(size_t n, int channels, const float* x, ptrdiff_t plane_stride, const Quantizer& q,
                 uint8_t* y, ptrdiff_t y_pitch) {
  for (size_t begin = 0; begin < n; begin += kPixels) {
    const size_t count = n - begin < kPixels ? n - begin : kPixels;
    for (int c = 0; c < channels; ++c) {
      uint8_t plane[kPixels];
      const float* p = x + c * plane_stride + begin;
      for (size_t i = 0; i < count; ++i) plane[i] = static_cast<uint8_t>(q(p[i]));
      uint8_t* out = y + static_cast<ptrdiff_t>(begin) * y_pitch + c;
      for (size_t i = 0; i < count; ++i) out[static_cast<ptrdiff_t>(i) * y_pitch] = plane[i];
    }
  }
}

void planes_to_pixels(size_t n, int channels, const float* x, ptrdiff_t plane_stride, float scale,
                      int32_t zero_point, uint8_t* y, ptrdiff_t y_pitch) {
  const Quantizer q(scale, zero_point);
  switch (channels) {
    case 1:
      return few_planes<1>(n, x, plane_stride, q, y, y_pitch);
    case 2:
      return few_planes<2>(n, x, plane_stride, q, y, y_pitch);
    case 3:
      return few_planes<3>(n, x, plane_stride, q, y, y_pitch);
    case 4:
      return few_planes<4>(n, x, plane_stride, q, y, y_pitch);
    default:
      return many_planes(n, channels, x, plane_stride, q, y, y_pitch);
  }
}

}  // namespace
}  // namespace pyruntime
