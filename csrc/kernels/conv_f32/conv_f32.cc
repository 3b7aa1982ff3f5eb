#include "kernels/conv_f32/conv_f32.h"

namespace pyruntime {

#define PYRUNTIME_ROW(row) extern const ConvF32Kernel row;
#include "kernels/conv_f32/kernels.inc"
#undef PYRUNTIME_ROW

const ConvF32Kernel* conv_f32_kernels(int* count) {
#define PYRUNTIME_ROW(row) row,
  static const ConvF32Kernel rows[] = {
#include "kernels/conv_f32/kernels.inc"
  };
#undef PYRUNTIME_ROW
  *count = static_cast<int>(sizeof(rows) / sizeof(rows[0]));
  return rows;
}

}  // namespace pyruntime
