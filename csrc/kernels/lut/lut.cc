#include "kernels/lut/lut.h"

namespace pyruntime {

#define PYRUNTIME_ROW(row) extern const LutKernel row;
#include "kernels/lut/kernels.inc"
#undef PYRUNTIME_ROW

const LutKernel* lut_kernels(int* count) {
#define PYRUNTIME_ROW(row) row,
  static const LutKernel rows[] = {
#include "kernels/lut/kernels.inc"
  };
#undef PYRUNTIME_ROW
  *count = static_cast<int>(sizeof(rows) / sizeof(rows[0]));
  return rows;
}

}  // namespace pyruntime
