#include "kernels/conv_f32/conv_f32.h"
#include "kernels/conv_f32/pack.h"
#include "kernels/conv_f32/scalar_fma.h"

namespace pyruntime {
namespace {

constexpr int kBlock = 16;

inline const float* at(const float* p, ptrdiff_t bytes) {
  return reinterpret_cast<const float*>(reinterpret_cast<const char*>(p) + bytes);
}

inline float clamp(float v, float lo, float hi) {
  v = v < lo ? lo : v;
  return v > hi ? hi : v;
}

// One pixel, one block of output channels.
void pixel(const ConvF32Args& a, const float* x, const float* w, const float* residual, int o, int width,
           float* y) {
  float acc[kBlock];
  for (int i = 0; i < kBlock; ++i) acc[i] = a.bias[o + i];
  for (int t = 0; t < a.taps; ++t) {
    const float* in = at(x, a.tap_offset[t]);
    for (int c = 0; c < a.k; ++c, w += kBlock) fma_same(in[c], w, acc, kBlock);
  }
  for (int i = 0; i < width; ++i) {
    const float sum = residual ? acc[i] + residual[o + i] : acc[i];
    y[o + i] = clamp(sum, a.lo, a.hi);
  }
}

void run(const ConvF32Args& a) {
  const ptrdiff_t depth = static_cast<ptrdiff_t>(a.taps) * a.k;
  for (int o = a.n_begin; o < a.n_end; o += kBlock) {
    const float* w = static_cast<const float*>(a.w) + o * depth;
    const int width = a.n_end - o < kBlock ? a.n_end - o : kBlock;
    for (int r = 0; r < a.rows; ++r)
      for (int c = 0; c < a.cols; ++c) {
        const float* x = at(a.x, r * a.x_row_stride + c * a.x_col_stride);
        float* y = const_cast<float*>(at(a.y, r * a.y_row_stride + c * a.y_col_stride));
        const float* residual = nullptr;
        if (a.residual) residual = at(a.residual, r * a.residual_row_stride + c * a.residual_col_stride);
        pixel(a, x, w, residual, o, width, y);
      }
  }
}

}  // namespace

extern const ConvF32Kernel conv_f32__scalar;
const ConvF32Kernel conv_f32__scalar = {
    "conv_f32_1x16__scalar", Isa::scalar, kBlock, packed_bytes<kBlock>, pack<kBlock>,
    pack_matrix<kBlock>,     run};

}  // namespace pyruntime
