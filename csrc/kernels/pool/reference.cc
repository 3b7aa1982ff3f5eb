// The specification of pooling (kernels/pool/pool.h).
#include <cmath>

#include "kernels/pool/pool.h"

namespace pyruntime {
namespace {

// at(p, i, c): value c of cell i of pixel p.
template <class T>
auto reader(const PoolRun& run, const T* const* x) {
  return [&run, x](int p, int i, int c) { return x[i][p * run.x_step + c]; };
}

void max_u8(const PoolRun& run, const uint8_t* const* x, uint8_t* y) {
  const auto at = reader(run, x);
  for (int p = 0; p < run.pixels; ++p, y += run.y_step)
    for (int c = 0; c < run.channels; ++c) {
      y[c] = at(p, 0, c);
      for (int i = 1; i < run.count; ++i)
        if (at(p, i, c) > y[c]) y[c] = at(p, i, c);
    }
}

void max_f32(const PoolRun& run, const float* const* x, float* y) {
  const auto at = reader(run, x);
  for (int p = 0; p < run.pixels; ++p, y += run.y_step)
    for (int c = 0; c < run.channels; ++c) {
      float best = at(p, 0, c);
      for (int i = 1; i < run.count; ++i)
        if (!std::isnan(best) && !(best > at(p, i, c))) best = at(p, i, c);
      y[c] = best + 0.0f;  // -0 becomes 0
    }
}

uint8_t requantize_sum(int64_t sum, float multiplier, float zero_point_y) {
  const float f = std::fma(static_cast<float>(sum), multiplier, zero_point_y);
  return static_cast<uint8_t>(std::fmin(std::fmax(std::nearbyint(f), 0.0f), 255.0f));
}

void average_u8(const PoolRun& run, const uint8_t* const* x, int32_t zero_point_x, float multiplier,
                float zero_point_y, uint8_t* y) {
  const auto at = reader(run, x);
  for (int p = 0; p < run.pixels; ++p, y += run.y_step)
    for (int c = 0; c < run.channels; ++c) {
      int64_t sum = 0;
      for (int i = 0; i < run.count; ++i) sum += at(p, i, c) - zero_point_x;
      y[c] = requantize_sum(sum, multiplier, zero_point_y);
    }
}

void average_f32(const PoolRun& run, const float* const* x, float divisor, float* y) {
  const auto at = reader(run, x);
  for (int p = 0; p < run.pixels; ++p, y += run.y_step)
    for (int c = 0; c < run.channels; ++c) {
      float sum = 0.0f;
      for (int i = 0; i < run.count; ++i) sum += at(p, i, c);
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
