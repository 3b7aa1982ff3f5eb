// The specification of depthwise_int8: the loop nest of depthwise_int8.h, nothing more.
#include "kernels/depthwise_int8/depthwise_int8.h"
#include "kernels/requantize_scalar.h"

namespace pyruntime {

void depthwise_int8_reference(const DepthwiseInt8Args& args, const int8_t* w) {
  const Requantize& q = args.requantize;
  for (int row = 0; row < args.rows; ++row) {
    for (int col = 0; col < args.cols; ++col) {
      const uint8_t* x = args.x + row * args.x_row_stride + col * args.x_col_stride;
      uint8_t* y = static_cast<uint8_t*>(args.y) + row * args.y_row_stride + col * args.y_col_stride;
      const uint8_t* residual = q.residual;
      if (residual != nullptr) residual += row * q.residual_row_stride + col * q.residual_col_stride;
      for (int c = args.channel_begin; c < args.channel_end; ++c) {
        int32_t acc = q.acc_init[c];
        for (int i = 0; i < args.kh; ++i) {
          for (int j = 0; j < args.kw; ++j) {
            acc += x[i * args.tap_row_stride + j * args.tap_col_stride + c] *
                   w[(static_cast<ptrdiff_t>(c) * args.kh + i) * args.kw + j];
          }
        }
        requantize_store(q, acc, c, residual, y);
      }
    }
  }
}

}  // namespace pyruntime
