// Packed forms of the weights of conv_int8. Every packing <p> has packed_bytes_<p> and pack_<p>.
//
//  rows   [n][taps][k]: the dense array itself.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/conv_int8/conv_int8.h"

namespace pyruntime {
namespace conv_int8 {

size_t packed_bytes_rows(const ConvInt8Weights& weights);
void pack_rows(const ConvInt8Weights& weights, void* packed);

}  // namespace conv_int8
}  // namespace pyruntime
