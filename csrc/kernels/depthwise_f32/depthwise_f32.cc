#include "kernels/depthwise_f32/depthwise_f32.h"

namespace pyruntime {

#define PYRUNTIME_ROW(row) extern const DepthwiseF32Kernel row;
#include "kernels/depthwise_f32/kernels.inc"
#undef PYRUNTIME_ROW

const DepthwiseF32Kernel* depthwise_f32_kernels(int* count) {
#define PYRUNTIME_ROW(row) row,
  static const DepthwiseF32Kernel rows[] = {
#include "kernels/depthwise_f32/kernels.inc"
  };
#undef PYRUNTIME_ROW
  *count = static_cast<int>(sizeof(rows) / sizeof(rows[0]));
  return rows;
}

}  // namespace pyruntime
