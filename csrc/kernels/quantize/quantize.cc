#include "kernels/quantize/quantize.h"

namespace pyruntime {

#define PYRUNTIME_ROW(row) extern const QuantizeKernels row;
#include "kernels/quantize/kernels.inc"
#undef PYRUNTIME_ROW

const QuantizeKernels* quantize_kernels(int* count) {
#define PYRUNTIME_ROW(row) row,
  static const QuantizeKernels rows[] = {
#include "kernels/quantize/kernels.inc"
  };
#undef PYRUNTIME_ROW
  *count = static_cast<int>(sizeof(rows) / sizeof(rows[0]));
  return rows;
}

}  // namespace pyruntime
