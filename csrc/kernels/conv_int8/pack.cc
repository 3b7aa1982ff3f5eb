#include "kernels/conv_int8/pack.h"

#include <cstring>

namespace pyruntime {
namespace conv_int8 {

size_t packed_bytes_rows(const ConvInt8Weights& weights) {
  return static_cast<size_t>(weights.n) * weights.taps * weights.k;
}

void pack_rows(const ConvInt8Weights& weights, void* packed) {
  std::memcpy(packed, weights.w, packed_bytes_rows(weights));
}

}  // namespace conv_int8
}  // namespace pyruntime
