#include "kernels/conv_int8/conv_int8.h"

#include "kernels/conv_int8/cost.h"
#include "kernels/conv_int8/int4.h"
#include "kernels/conv_int8/pack.h"
#include "kernels/conv_int8/sparse_lanes.h"
#include "kernels/conv_int8/sparse_list.h"
#include "kernels/conv_int8/sparse_pairs.h"
#include "kernels/conv_int8/sparse_rows.h"
#include "kernels/conv_int8/sparse_twins.h"
#include "kernels/conv_int8/winograd.h"

namespace pyruntime {

#define CONV_INT8_KERNEL(name, isa, format, n_block, pixel_block, packing) \
  void run_##name(const ConvInt8Args& args);
#include "kernels/conv_int8/kernels.inc"
#include "kernels/conv_int8/test_kernels.inc"
#undef CONV_INT8_KERNEL

namespace {

#define CONV_INT8_KERNEL(name, isa, format, n_block, pixel_block, packing) \
  {#name,                                                                  \
   Isa::isa,                                                               \
   WeightFormat::format,                                                   \
   n_block,                                                                \
   pixel_block,                                                            \
   conv_int8::packed_bytes_##packing,                                      \
   conv_int8::pack_##packing,                                              \
   conv_int8::scratch_bytes_##packing,                                     \
   run_##name,                                                             \
   cost_##name},

const ConvInt8Kernel kKernels[] = {
#include "kernels/conv_int8/kernels.inc"
};

const ConvInt8Kernel kTestKernels[] = {
#include "kernels/conv_int8/test_kernels.inc"
    {nullptr, Isa::scalar, WeightFormat::dense, 0, 0, nullptr, nullptr, nullptr, nullptr, nullptr}};

#undef CONV_INT8_KERNEL

}  // namespace

const char* weight_format_name(WeightFormat format) {
  switch (format) {
    case WeightFormat::winograd:
      return "winograd";
    case WeightFormat::int4:
      return "int4";
    case WeightFormat::block4:
      return "block4";
    case WeightFormat::bitmask:
      return "bitmask";
    default:
      return "dense";
  }
}

const ConvInt8Kernel* conv_int8_kernels(int* count) {
  *count = static_cast<int>(sizeof(kKernels) / sizeof(kKernels[0]));
  return kKernels;
}

const ConvInt8Kernel* conv_int8_test_kernels(int* count) {
  *count = static_cast<int>(sizeof(kTestKernels) / sizeof(kTestKernels[0])) - 1;  // without the end mark
  return kTestKernels;
}

}  // namespace pyruntime
