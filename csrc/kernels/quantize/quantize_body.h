// The quantize kernels, once: each ISA source includes this file and the compiler vectorizes the loops for
// its ISA. Before it, the source defines store_triples in an anonymous namespace of pyruntime:
//   size_t store_triples(const uint32_t* words, size_t count, uint8_t* y)
// stores the low 3 bytes of the first words one after another and returns how many words; the rest is stored
// one by one. (Left to the compiler, the stores took longer than the divisions.)
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

// f(i) for the first n indices. The compiler's own loop takes what is left behind 64 values one by one: all
// of a row of 28 pixels. Here it goes in blocks of 16, of which the last overlaps the one before it.
template <class Function>
inline void each_value(size_t n, Function f) {
  const auto block16 = [&](size_t begin) {
// GCC would unroll the block into scalars before it vectorizes.
#pragma GCC unroll 1
    PYRUNTIME_IVDEP
    for (size_t j = 0; j < 16; ++j) f(begin + j);
  };
  size_t i = 0;
  for (; i + 64 <= n; i += 64) {
    PYRUNTIME_IVDEP
    for (size_t j = 0; j < 64; ++j) f(i + j);
  }
  for (; i + 16 <= n; i += 16) block16(i);
  if (i < n && n >= 16) return block16(n - 16);
  for (; i < n; ++i) f(i);
}

void quantize(size_t n, const float* x, float scale, int32_t zero_point, uint8_t flip, uint8_t* y) {
  const Quantizer q(scale, zero_point);
  each_value(n, [=](size_t i) { y[i] = static_cast<uint8_t>(q(x[i]) ^ flip); });
}

void dequantize(size_t n, const uint8_t* x, float scale, int32_t zero_point, uint8_t flip, float* y) {
  PYRUNTIME_IVDEP
  for (size_t i = 0; i < n; ++i)
    y[i] = static_cast<float>(static_cast<int32_t>(x[i] ^ flip) - zero_point) * scale;
}

constexpr size_t kPixels = 64;  // pixels of one block: a block of words stays in the L1 cache

// A block of `count` pixels, 1 to 4 of their channels: the bytes of a pixel meet in one 32-bit word.
template <int kChannels>
void block_to_pixels(size_t count, const float* x, ptrdiff_t plane_stride, const Quantizer& quantizer,
                     uint8_t* y, ptrdiff_t y_pitch) {
  const Quantizer q = quantizer;  // a copy, which the stores of words cannot change
  uint32_t words[kPixels];
  for (size_t i = 0; i < count; ++i) {
    uint32_t word = 0;
    for (int c = 0; c < kChannels; ++c) word |= q(x[c * plane_stride + static_cast<ptrdiff_t>(i)]) << (8 * c);
    words[i] = word;
  }
  size_t i = kChannels == 3 && y_pitch == 3 ? store_triples(words, count, y) : 0;
  for (y += static_cast<ptrdiff_t>(i) * y_pitch; i < count; ++i, y += y_pitch)
    __builtin_memcpy(y, &words[i], kChannels);
}

void planes_to_pixels(size_t n, int channels, const float* x, ptrdiff_t plane_stride, float scale,
                      int32_t zero_point, uint8_t* y, ptrdiff_t y_pitch) {
  const Quantizer q(scale, zero_point);
  for (size_t begin = 0; begin < n; begin += kPixels, y += static_cast<ptrdiff_t>(kPixels) * y_pitch) {
    const size_t count = n - begin < kPixels ? n - begin : kPixels;
    const float* p = x + begin;
    int c = 0;
    for (; c + 4 <= channels; c += 4, p += 4 * plane_stride)
      block_to_pixels<4>(count, p, plane_stride, q, y + c, y_pitch);
    if (channels - c == 3) block_to_pixels<3>(count, p, plane_stride, q, y + c, y_pitch);
    if (channels - c == 2) block_to_pixels<2>(count, p, plane_stride, q, y + c, y_pitch);
    if (channels - c == 1) block_to_pixels<1>(count, p, plane_stride, q, y + c, y_pitch);
  }
}

}  // namespace
}  // namespace pyruntime
