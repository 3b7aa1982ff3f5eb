// conv_int8 without vector intrinsics: the fallback of every platform. One output at a time over contiguous
// weights; the inner dot product is written so that a compiler can vectorize it.
#include "kernels/conv_int8/conv_int8.h"
#include "kernels/requantize_scalar.h"

namespace pyruntime {
namespace {

int32_t dot(const uint8_t* x, const int8_t* w, int k) {
  int32_t sum = 0;
  for (int c = 0; c < k; ++c) sum += static_cast<int16_t>(x[c]) * static_cast<int16_t>(w[c]);
  return sum;
}

void run_pixel(const ConvInt8Args& args, const uint8_t* x, const uint8_t* residual, void* y) {
  const int8_t* w =
      static_cast<const int8_t*>(args.w) + static_cast<ptrdiff_t>(args.n_begin) * args.taps * args.k;
  for (int o = args.n_begin; o < args.n_end; ++o) {
    int32_t acc = args.requantize.acc_init[o];
    for (int t = 0; t < args.taps; ++t, w += args.k) acc += dot(x + args.tap_offset[t], w, args.k);
    requantize_store(args.requantize, acc, o, residual, y);
  }
}

}  // namespace

void run_conv_int8_u8s8s32_1x1x1__scalar(const ConvInt8Args& args) {
  const Requantize& q = args.requantize;
  for (int row = 0; row < args.rows; ++row) {
    for (int col = 0; col < args.cols; ++col) {
      const uint8_t* residual = q.residual;
      if (residual != nullptr) residual += row * q.residual_row_stride + col * q.residual_col_stride;
      run_pixel(args, args.x + row * args.x_row_stride + col * args.x_col_stride, residual,
                static_cast<uint8_t*>(args.y) + row * args.y_row_stride + col * args.y_col_stride);
    }
  }
}

}  // namespace pyruntime
