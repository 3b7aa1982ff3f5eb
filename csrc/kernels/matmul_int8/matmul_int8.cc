#include "kernels/matmul_int8/matmul_int8.h"

namespace pyruntime {

#define PYRUNTIME_ROW(row) extern const MatmulInt8Kernels row;
#include "kernels/matmul_int8/kernels.inc"
#undef PYRUNTIME_ROW

const MatmulInt8Kernels* matmul_int8_kernels(int* count) {
#define PYRUNTIME_ROW(row) row,
  static const MatmulInt8Kernels rows[] = {
#include "kernels/matmul_int8/kernels.inc"
  };
#undef PYRUNTIME_ROW
  *count = static_cast<int>(sizeof(rows) / sizeof(rows[0]));
  return rows;
}

}  // namespace pyruntime
