// The specification of pooling (kernels/pool/pool.h).
#include <cmath>

#include "kernels/pool/pool.h"

namespace pyruntime {
namespace {

void max_u8(const uint8_t* const* x, int count, int channels, uint8_t* y) {
  for (int c = 0; c < channels; ++c) {
    y[c] = x[0][c];
    for (int i = 1; i < count; ++i)
      if (x[i][c] > y[c]) y[c] = x[i][c];
  }
}

void max_f32(const float* const* x, int count, int channels, float* y) {
  for (int c = 0; c < channels; ++c) {
    float best = x[0][c];
    for (int i = 1; i < count; ++i)
      if (!std::isnan(best) && !(best > x[i][c])) best = x[i][c];
    y[c] = best + 0.0f;  // -0 becomes 0
  }
}

uint8_t requantize_sum(int64_t sum, float multiplier, float zero_point_y) {
  const float f = std::fma(static_cast<float>(sum), multiplier, zero_point_y);
  return static_cast<uint8_t>(std::fmin(std::fmax(std::nearbyint(f), 0.0f), 255.0f));
}

void average_u8(const uint8_t* const* x, int count, int channels, int32_t zero_point_x, float multiplier,
                float zero_point_y, uint8_t* y) {
  for (int c = 0; c < channels; ++c) {
    int64_t sum = 0;
    for (int i = 0; i < count; ++i) sum += x[i][c] - zero_point_x;
    y[c] = requantize_sum(sum, multiplier, zero_point_y);
  }
}

void average_f32(const float* const* x, int count, int channels, float divisor, float* y) {
  for (int c = 0; c < channels; ++c) {
    float sum = 0.0f;
    for (int i = 0; i < count; ++i) sum += x[i][c];
    y[c] = sum / divisor;
  }
}

void global_average_u8(const uint8_t* x, ptrdiff_t pitch, int pixels, int channels, int32_t zero_point_x,
                       float multiplier, float zero_point_y, uint8_t* y) {
  for (int c = 0; c < channels; ++c) {
    int64_t sum = 0;
    for (int i = 0; i < pixels; ++i) sum += x[i * pitch + c] - zero_point_x;
    y[c] = requantize_sum(sum, multiplier, zero_point_y);
  }
}

}  // namespace

const PoolKernels& pool_reference() {
  static const PoolKernels row = {"reference", Isa::scalar, max_u8,           max_f32,
                                  average_u8,  average_f32, global_average_u8};
  return row;
}

}  // namespace pyruntime
