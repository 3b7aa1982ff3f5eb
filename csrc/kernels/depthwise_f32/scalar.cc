#include "kernels/conv_f32/scalar_fma.h"
#include "kernels/depthwise_f32/depthwise_f32.h"

namespace pyruntime {
namespace {

inline const float* at(const float* p, ptrdiff_t bytes) {
  return reinterpret_cast<const float*>(reinterpret_cast<const char*>(p) + bytes);
}

constexpr int kBlock = 16;

void pixel(const DepthwiseF32Args& a, const float* x, int channel, int width, float* y) {
  float acc[kBlock];
  for (int k = 0; k < width; ++k) acc[k] = a.bias[channel + k];
  const float* w = a.w + channel;
  for (int i = 0; i < a.kh; ++i)
    for (int j = 0; j < a.kw; ++j, w += a.channels) {
      const float* in = at(x, i * a.tap_row_stride + j * a.tap_col_stride) + channel;
      fma_each(in, w, acc, width);
    }
  for (int k = 0; k < width; ++k) {
    float v = acc[k];
    v = v < a.lo ? a.lo : v;
    y[channel + k] = v > a.hi ? a.hi : v;
  }
}

void run(const DepthwiseF32Args& a) {
  for (int r = 0; r < a.rows; ++r)
    for (int c = 0; c < a.cols; ++c) {
      const float* x = at(a.x, r * a.x_row_stride + c * a.x_col_stride);
      float* y = const_cast<float*>(at(a.y, r * a.y_row_stride + c * a.y_col_stride));
      for (int channel = a.channel_begin; channel < a.channel_end; channel += kBlock)
        pixel(a, x, channel, a.channel_end - channel < kBlock ? a.channel_end - channel : kBlock, y);
    }
}

}  // namespace

extern const DepthwiseF32Kernel depthwise_f32__scalar;
const DepthwiseF32Kernel depthwise_f32__scalar = {"depthwise_f32__scalar", Isa::scalar, run};

}  // namespace pyruntime
