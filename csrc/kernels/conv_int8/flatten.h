// Pixel rows that follow one another in every buffer are one long row: most 1x1 convolutions.
#pragma once

#include "kernels/conv_int8/conv_int8.h"

namespace pyruntime {
namespace conv_int8 {

[[gnu::always_inline]] static inline ConvInt8Args flatten(const ConvInt8Args& args) {
  ConvInt8Args flat = args;
  const Requantize& q = args.requantize;
  const bool residual_flat =
      q.residual == nullptr || q.residual_row_stride == args.cols * q.residual_col_stride;
  if (args.x_row_stride == args.cols * args.x_col_stride &&
      args.y_row_stride == args.cols * args.y_col_stride && residual_flat) {
    flat.cols = args.rows * args.cols;
    flat.rows = 1;
  }
  return flat;
}

}  // namespace conv_int8
}  // namespace pyruntime
