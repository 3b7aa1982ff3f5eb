#include <cstddef>
#include <cstdint>

namespace pyruntime {
namespace {

// One store a pixel: the next pixel overwrites the fourth byte.
inline size_t store_triples(const uint32_t* words, size_t count, uint8_t* y) {
  size_t i = 0;
  for (; i + 1 < count; ++i, y += 3) __builtin_memcpy(y, &words[i], 4);
  return i;
}

}  // namespace
}  // namespace pyruntime

#include "kernels/quantize/quantize_body.h"

namespace pyruntime {

extern const QuantizeKernels quantize__scalar;
const QuantizeKernels quantize__scalar = {"quantize__scalar", Isa::scalar, quantize, dequantize,
                                          planes_to_pixels};

}  // namespace pyruntime
