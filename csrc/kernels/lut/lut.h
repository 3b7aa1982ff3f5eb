// y[i] = table[x[i]], 256 entries. In place allowed.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/isa.h"

namespace pyruntime {

struct LutKernel {
  const char* name;
  Isa isa;
  void (*run)(size_t n, const uint8_t* x, const uint8_t* table, uint8_t* y);
};

const LutKernel* lut_kernels(int* count);
const LutKernel& lut_reference();  // the specification, used by tests only

}  // namespace pyruntime
