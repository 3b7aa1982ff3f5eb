#include "kernels/lut/lut.h"

namespace pyruntime {
namespace {

void run(size_t n, const uint8_t* x, const uint8_t* table, uint8_t* y) {
  for (size_t i = 0; i < n; ++i) y[i] = table[x[i]];
}

}  // namespace

extern const LutKernel lut__scalar;
const LutKernel lut__scalar = {"lut__scalar", Isa::scalar, run};

}  // namespace pyruntime
