// The specification of quantize and dequantize (docs/format.md).
#include <cmath>

#include "kernels/quantize/quantize.h"

namespace pyruntime {
namespace {

uint8_t quantize_one(float x, float scale, int32_t zero_point, uint8_t flip) {
  const float quotient = x / scale;
  double q = 0.0;  // NaN gives the lowest value
  if (!std::isnan(quotient))
    q = std::fmin(std::fmax(std::nearbyint(double{quotient}) + zero_point, 0.0), 255.0);
  return static_cast<uint8_t>(static_cast<uint8_t>(q) ^ flip);
}

void quantize(size_t n, const float* x, float scale, int32_t zero_point, uint8_t flip, uint8_t* y) {
  for (size_t i = 0; i < n; ++i) y[i] = quantize_one(x[i], scale, zero_point, flip);
}

void dequantize(size_t n, const uint8_t* x, float scale, int32_t zero_point, uint8_t flip, float* y) {
  for (size_t i = 0; i < n; ++i) y[i] = static_cast<float>((x[i] ^ flip) - zero_point) * scale;
}

void planes_to_pixels(size_t n, int channels, const float* x, ptrdiff_t plane_stride, float scale,
                      int32_t zero_point, uint8_t* y, ptrdiff_t y_pitch) {
  for (size_t i = 0; i < n; ++i)
    for (int c = 0; c < channels; ++c)
      y[static_cast<ptrdiff_t>(i) * y_pitch + c] =
          quantize_one(x[c * plane_stride + static_cast<ptrdiff_t>(i)], scale, zero_point, 0);
}

}  // namespace

const QuantizeKernels& quantize_reference() {
  static const QuantizeKernels row = {"reference", Isa::scalar, quantize, dequantize, planes_to_pixels};
  return row;
}

}  // namespace pyruntime
