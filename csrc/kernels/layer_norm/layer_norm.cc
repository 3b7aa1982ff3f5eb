#include "kernels/layer_norm/layer_norm.h"

namespace pyruntime {

#define PYRUNTIME_ROW(row) extern const LayerNormKernel row;
#include "kernels/layer_norm/kernels.inc"
#undef PYRUNTIME_ROW

const LayerNormKernel* layer_norm_kernels(int* count) {
#define PYRUNTIME_ROW(row) row,
  static const LayerNormKernel rows[] = {
#include "kernels/layer_norm/kernels.inc"
  };
#undef PYRUNTIME_ROW
  *count = static_cast<int>(sizeof(rows) / sizeof(rows[0]));
  return rows;
}

}  // namespace pyruntime
