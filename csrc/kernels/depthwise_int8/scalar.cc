// depthwise_int8 without vector intrinsics: blocks of channels, their accumulators in an array, taps outside,
// so that the inner loop over contiguous channels can be vectorized by a compiler.
#include "kernels/depthwise_int8/depthwise_int8.h"
#include "kernels/requantize_scalar.h"

namespace pyruntime {
namespace {

constexpr int kBlock = 64;

void run_block(const DepthwiseInt8Args& args, const uint8_t* x, int begin, int size, const uint8_t* residual,
               void* y) {
  int32_t acc[kBlock];
  for (int c = 0; c < size; ++c) acc[c] = args.requantize.acc_init[begin + c];
  const int8_t* w = static_cast<const int8_t*>(args.w) + begin;
  for (int i = 0; i < args.kh; ++i) {
    for (int j = 0; j < args.kw; ++j, w += args.channels) {
      const uint8_t* tap = x + i * args.tap_row_stride + j * args.tap_col_stride + begin;
      for (int c = 0; c < size; ++c) acc[c] += static_cast<int16_t>(tap[c]) * static_cast<int16_t>(w[c]);
    }
  }
  for (int c = 0; c < size; ++c) requantize_store(args.requantize, acc[c], begin + c, residual, y);
}

}  // namespace

void run_depthwise_int8_u8s8s32_any__scalar(const DepthwiseInt8Args& args) {
  const Requantize& q = args.requantize;
  for (int row = 0; row < args.rows; ++row) {
    for (int col = 0; col < args.cols; ++col) {
      const uint8_t* x = args.x + row * args.x_row_stride + col * args.x_col_stride;
      uint8_t* y = static_cast<uint8_t*>(args.y) + row * args.y_row_stride + col * args.y_col_stride;
      const uint8_t* residual = q.residual;
      if (residual != nullptr) residual += row * q.residual_row_stride + col * q.residual_col_stride;
      for (int begin = args.channel_begin; begin < args.channel_end; begin += kBlock) {
        const int left = args.channel_end - begin;
        run_block(args, x, begin, left < kBlock ? left : kBlock, residual, y);
      }
    }
  }
}

}  // namespace pyruntime
