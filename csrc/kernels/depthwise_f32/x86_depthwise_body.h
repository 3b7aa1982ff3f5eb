// Float depthwise convolution, once for AVX2 and AVX-512: one vector of channels, kPixels pixels of a row at
// a time.
//
// General: per tap one weight vector meets kPixels input vectors. Where neighbouring pixels share input
// columns (stride equals dilation) and kw is 3 or 5, each column of a row is loaded once and meets the kw
// weights of that row: column c is tap j of pixel c - j. Every pixel still sums its taps in (i, j) order.
#pragma once

#include "kernels/conv_f32/x86_vector_f32.h"
#include "kernels/depthwise_f32/depthwise_f32.h"

namespace pyruntime {
namespace {

template <bool kWhole>
inline Vector read(const float* p, Mask mask) {
  if constexpr (kWhole) return load(p);
  return load_masked(p, mask);
}

template <bool kWhole>
inline void write(const DepthwiseF32Args& a, Vector acc, float* y, Mask mask) {
  const Vector v = clamp(acc, broadcast(a.lo), broadcast(a.hi));
  if constexpr (kWhole)
    store(y, v);
  else
    store_masked(y, mask, v);
}

// x and y point to the first pixel, w and bias to the weights and bias of the first channel.
template <bool kWhole, int kPixels>
void pixels_general(const DepthwiseF32Args& a, const float* x, const float* w, const float* bias, float* y,
                    Mask mask) {
  Vector acc[kPixels];
  for (int p = 0; p < kPixels; ++p) acc[p] = read<kWhole>(bias, mask);
  for (int i = 0; i < a.kh; ++i)
    for (int j = 0; j < a.kw; ++j, w += a.channels) {
      const float* in = at(x, i * a.tap_row_stride + j * a.tap_col_stride);
      const Vector weight = read<kWhole>(w, mask);
      for (int p = 0; p < kPixels; ++p)
        acc[p] = fma(read<kWhole>(at(in, p * a.x_col_stride), mask), weight, acc[p]);
    }
  for (int p = 0; p < kPixels; ++p) write<kWhole>(a, acc[p], at(y, p * a.y_col_stride), mask);
}

template <bool kWhole, int kPixels, int kWidth>
void pixels_shared(const DepthwiseF32Args& a, const float* x, const float* w, const float* bias, float* y,
                   Mask mask) {
  Vector acc[kPixels];
  for (int p = 0; p < kPixels; ++p) acc[p] = read<kWhole>(bias, mask);
  for (int i = 0; i < a.kh; ++i) {
    const float* in = at(x, i * a.tap_row_stride);
    Vector weight[kWidth];
    for (int j = 0; j < kWidth; ++j, w += a.channels) weight[j] = read<kWhole>(w, mask);
    for (int column = 0; column < kPixels + kWidth - 1; ++column) {
      Vector value = read<kWhole>(at(in, column * a.x_col_stride), mask);
      keep_in_register(value);
      for (int j = 0; j < kWidth; ++j) {
        const int p = column - j;
        if (p >= 0 && p < kPixels) acc[p] = fma(value, weight[j], acc[p]);
      }
    }
  }
  for (int p = 0; p < kPixels; ++p) write<kWhole>(a, acc[p], at(y, p * a.y_col_stride), mask);
}

template <bool kWhole, int kPixels>
void pixels(const DepthwiseF32Args& a, const float* x, const float* w, const float* bias, float* y,
            Mask mask) {
  const bool shared = kPixels > 1 && a.x_col_stride == a.tap_col_stride;
  if (shared && a.kw == 3) return pixels_shared<kWhole, kPixels, 3>(a, x, w, bias, y, mask);
  if (shared && a.kw == 5) return pixels_shared<kWhole, kPixels, 5>(a, x, w, bias, y, mask);
  pixels_general<kWhole, kPixels>(a, x, w, bias, y, mask);
}

// Tiles of 7 pixels: maps 7, 14, 28, 56, 112 wide divide evenly. Accumulators, weights and a column fit 16
// registers.
template <bool kWhole>
void run_row(const DepthwiseF32Args& a, int row, int channel, Mask mask) {
  const float* x = at(a.x, row * a.x_row_stride) + channel;
  float* y = at(a.y, row * a.y_row_stride) + channel;
  const float *w = a.w + channel, *bias = a.bias + channel;
  int col = 0;
  const auto advance = [&](int count) {
    x = at(x, count * a.x_col_stride);
    y = at(y, count * a.y_col_stride);
    col += count;
  };
  for (; col + 7 <= a.cols; advance(7)) pixels<kWhole, 7>(a, x, w, bias, y, mask);
  for (; col + 4 <= a.cols; advance(4)) pixels<kWhole, 4>(a, x, w, bias, y, mask);
  for (; col + 2 <= a.cols; advance(2)) pixels<kWhole, 2>(a, x, w, bias, y, mask);
  for (; col < a.cols; advance(1)) pixels<kWhole, 1>(a, x, w, bias, y, mask);
}

void run(const DepthwiseF32Args& a) {
  for (int row = 0; row < a.rows; ++row) {
    int channel = a.channel_begin;
    for (; channel + kVector <= a.channel_end; channel += kVector) run_row<true>(a, row, channel, Mask());
    if (channel < a.channel_end) run_row<false>(a, row, channel, first_lanes(a.channel_end - channel));
  }
}

}  // namespace
}  // namespace pyruntime
