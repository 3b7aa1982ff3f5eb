// 1x4-block weights without vector intrinsics (sparse_list.h, packing block4_list).
#include "kernels/conv_int8/sparse_list.h"
#include "kernels/conv_int8/sparse_pixel.h"
#include "kernels/requantize_scalar.h"

namespace pyruntime {
namespace {

using conv_int8::SparseList;

int32_t dot(const SparseList& list, int channel, const uint8_t* inputs) {
  int32_t sum = 0;
  for (uint32_t i = list.first[channel]; i < list.first[channel + 1]; ++i) {
    int8_t w[4];
    __builtin_memcpy(w, &list.weights[i], 4);
    const uint8_t* x = inputs + 4 * list.block[i];
    for (int j = 0; j < 4; ++j) sum += x[j] * w[j];
  }
  return sum;
}

}  // namespace

void run_conv_int8_u8s8s32_block4_1x1__scalar(const ConvInt8Args& args) {
  const SparseList list = conv_int8::sparse_list(args.w, args.n);
  auto* inputs = static_cast<uint8_t*>(args.scratch);
  const int tap_bytes = (args.k + 3) / 4 * 4;
  for (int row = 0; row < args.rows; ++row) {
    for (int col = 0; col < args.cols; ++col) {
      gather_taps(args, pixel_x(args, row, col), tap_bytes, args.taps * tap_bytes, inputs);
      for (int o = args.n_begin; o < args.n_end; ++o)
        requantize_store(args.requantize, args.requantize.acc_init[o] + dot(list, o, inputs), o,
                         pixel_residual(args.requantize, row, col), pixel_y(args, row, col));
    }
  }
}

}  // namespace pyruntime
