#include "kernels/elementwise/elementwise.h"

namespace pyruntime {

const float kLeastExponent = -104.0f, kMostExponent = 89.0f;

#define PYRUNTIME_ROW(row) extern const ElementwiseKernels row;
#include "kernels/elementwise/kernels.inc"
#undef PYRUNTIME_ROW

const ElementwiseKernels* elementwise_kernels(int* count) {
#define PYRUNTIME_ROW(row) row,
  static const ElementwiseKernels rows[] = {
#include "kernels/elementwise/kernels.inc"
  };
#undef PYRUNTIME_ROW
  *count = static_cast<int>(sizeof(rows) / sizeof(rows[0]));
  return rows;
}

}  // namespace pyruntime
