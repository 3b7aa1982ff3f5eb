// Which epilogue of requantize_avx512.h a call of conv_int8 needs.
#pragma once

#include "kernels/conv_int8/conv_int8.h"
#include "kernels/requantize_avx512.h"

namespace pyruntime {
namespace conv_int8 {

// False if the output is u8 without residual and no scaled value can leave s32: a product is at most 255 *
// 128.
[[gnu::always_inline]] static inline bool needs_general_epilogue(const ConvInt8Args& args) {
  const Requantize& q = args.requantize;
  if (q.f32_output) return true;
  const float products = 32640.0f * static_cast<float>(args.taps) * static_cast<float>(args.k);
  return !requantize_fits_s32(q, args.n_begin, args.n_end, products);
}

}  // namespace conv_int8
}  // namespace pyruntime
