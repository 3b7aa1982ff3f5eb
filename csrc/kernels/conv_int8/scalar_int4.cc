// Weights of 4 bits (int4.h) without vector intrinsics: the packing spelled out.
#include "kernels/conv_int8/int4.h"
#include "kernels/conv_int8/sparse_pixel.h"
#include "kernels/requantize_scalar.h"

namespace pyruntime {
namespace {

using conv_int8::kInt4Block;
using conv_int8::kInt4BlockBytes;
using conv_int8::kInt4Offset;

// Adds one block of input channels to the sums of 16 output channels.
void add_block(const uint8_t* x, const uint8_t* nibbles, const uint8_t* multipliers, int32_t* acc) {
  int32_t sum[16] = {};
  for (int c = 0; c < kInt4Block; ++c) {
    const uint8_t* w = nibbles + c / 4 * 32 + c % 4;
    for (int i = 0; i < 8; ++i) {
      sum[i] += x[c] * ((w[4 * i] & 15) - kInt4Offset);
      sum[i + 8] += x[c] * ((w[4 * i] >> 4) - kInt4Offset);
    }
  }
  for (int i = 0; i < 16; ++i) acc[i] += sum[i] * multipliers[i];
}

}  // namespace

void run_conv_int8_u8s4s32_1x16x32__scalar(const ConvInt8Args& args) {
  const int blocks = conv_int8::int4_blocks(args.taps, args.k);
  const ptrdiff_t stride = conv_int8::int4_panel_stride(blocks);
  uint8_t* inputs = static_cast<uint8_t*>(args.scratch);
  for (int row = 0; row < args.rows; ++row) {
    for (int col = 0; col < args.cols; ++col) {
      conv_int8::int4_inputs(args, pixel_x(args, row, col), inputs);
      for (int o = args.n_begin; o < args.n_end; o += 16) {
        const uint8_t* nibbles = static_cast<const uint8_t*>(args.w) + o / 16 * stride;
        const uint8_t* multipliers = nibbles + static_cast<ptrdiff_t>(blocks) * kInt4BlockBytes;
        int32_t acc[16];
        for (int i = 0; i < 16; ++i) acc[i] = args.requantize.acc_init[o + i];
        for (int b = 0; b < blocks; ++b)
          add_block(inputs + b * kInt4Block, nibbles + b * kInt4BlockBytes, multipliers + b * 16, acc);
        const int channels = args.n_end - o < 16 ? args.n_end - o : 16;
        for (int i = 0; i < channels; ++i)
          requantize_store(args.requantize, acc[i], o + i, pixel_residual(args.requantize, row, col),
                           pixel_y(args, row, col));
      }
    }
  }
}

}  // namespace pyruntime
