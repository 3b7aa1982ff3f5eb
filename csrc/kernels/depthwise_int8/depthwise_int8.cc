#include "kernels/depthwise_int8/depthwise_int8.h"

#include "kernels/depthwise_int8/pack.h"

namespace pyruntime {

#define DEPTHWISE_INT8_KERNEL(name, isa, supports, packing) void run_##name(const DepthwiseInt8Args& args);
#include "kernels/depthwise_int8/kernels.inc"
#undef DEPTHWISE_INT8_KERNEL

namespace {

bool supports_any(int, int) { return true; }

const DepthwiseInt8Kernel kKernels[] = {
#define DEPTHWISE_INT8_KERNEL(name, isa, supports, packing) \
  {#name,                                                   \
   Isa::isa,                                                \
   supports_##supports,                                     \
   depthwise_int8::packed_bytes_##packing,                  \
   depthwise_int8::pack_##packing,                          \
   run_##name},
#include "kernels/depthwise_int8/kernels.inc"
#undef DEPTHWISE_INT8_KERNEL
};

}  // namespace

const DepthwiseInt8Kernel* depthwise_int8_kernels(int* count) {
  *count = static_cast<int>(sizeof(kKernels) / sizeof(kKernels[0]));
  return kKernels;
}

}  // namespace pyruntime
