// cost_<name> of every row of kernels.inc (ConvInt8Kernel::cost).
#pragma once

#include "kernels/conv_int8/conv_int8.h"

namespace pyruntime {

#define CONV_INT8_KERNEL(name, isa, format, n_block, pixel_block, packing) \
  double cost_##name(const ConvInt8Weights& weights, double density, const ConvInt8Grid& grid);
#include "kernels/conv_int8/kernels.inc"
#include "kernels/conv_int8/test_kernels.inc"
#undef CONV_INT8_KERNEL

}  // namespace pyruntime
