#include "kernels/conv_int8/conv_int8.h"

#include "kernels/conv_int8/cost.h"
#include "kernels/conv_int8/pack.h"
#include "kernels/conv_int8/sparse_lanes.h"
#include "kernels/conv_int8/sparse_list.h"
#include "kernels/conv_int8/sparse_rows.h"

namespace pyruntime {

#define CONV_INT8_KERNEL(name, isa, format, n_block, packing) void run_##name(const ConvInt8Args& args);
#include "kernels/conv_int8/kernels.inc"
#undef CONV_INT8_KERNEL

namespace {

const ConvInt8Kernel kKernels[] = {
#define CONV_INT8_KERNEL(name, isa, format, n_block, packing) \
  {#name,                                                     \
   Isa::isa,                                                  \
   WeightFormat::format,                                      \
   n_block,                                                   \
   conv_int8::packed_bytes_##packing,                         \
   conv_int8::pack_##packing,                                 \
   conv_int8::scratch_bytes_##packing,                        \
   run_##name,                                                \
   cost_##name},
#include "kernels/conv_int8/kernels.inc"
#undef CONV_INT8_KERNEL
};

}  // namespace

const ConvInt8Kernel* conv_int8_kernels(int* count) {
  *count = static_cast<int>(sizeof(kKernels) / sizeof(kKernels[0]));
  return kKernels;
}

}  // namespace pyruntime
