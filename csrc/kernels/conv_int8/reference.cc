// The specification of conv_int8: the loop nest of conv_int8.h, nothing more.
#include "kernels/conv_int8/conv_int8.h"
#include "kernels/requantize_scalar.h"

namespace pyruntime {

void conv_int8_reference(const ConvInt8Args& args, const int8_t* w) {
  const ptrdiff_t row_size = static_cast<ptrdiff_t>(args.taps) * args.k;
  for (int row = 0; row < args.rows; ++row) {
    for (int col = 0; col < args.cols; ++col) {
      const uint8_t* x = args.x + row * args.x_row_stride + col * args.x_col_stride;
      uint8_t* y = static_cast<uint8_t*>(args.y) + row * args.y_row_stride + col * args.y_col_stride;
      const Requantize& q = args.requantize;
      const uint8_t* residual = q.residual;
      if (residual != nullptr) residual += row * q.residual_row_stride + col * q.residual_col_stride;
      for (int o = args.n_begin; o < args.n_end; ++o) {
        int32_t acc = q.acc_init[o];
        for (int t = 0; t < args.taps; ++t) {
          for (int c = 0; c < args.k; ++c)
            acc += x[args.tap_offset[t] + c] * w[o * row_size + t * args.k + c];
        }
        requantize_store(q, acc, o, residual, y);
      }
    }
  }
}

}  // namespace pyruntime
