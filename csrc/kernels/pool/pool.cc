#include "kernels/pool/pool.h"

namespace pyruntime {

#define PYRUNTIME_ROW(row) extern const PoolKernels row;
#include "kernels/pool/kernels.inc"
#undef PYRUNTIME_ROW

const PoolKernels* pool_kernels(int* count) {
#define PYRUNTIME_ROW(row) row,
  static const PoolKernels rows[] = {
#include "kernels/pool/kernels.inc"
  };
#undef PYRUNTIME_ROW
  *count = static_cast<int>(sizeof(rows) / sizeof(rows[0]));
  return rows;
}

}  // namespace pyruntime
