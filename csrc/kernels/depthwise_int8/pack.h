// Packed forms of depthwise weights. Every packing <p> has packed_bytes_<p> and pack_<p>.
//
//  taps   [kh][kw][channels]
#pragma once

#include <cstddef>
#include <cstdint>

namespace pyruntime {
namespace depthwise_int8 {

size_t packed_bytes_taps(int channels, int kh, int kw);
void pack_taps(const int8_t* w, int channels, int kh, int kw, void* packed);

}  // namespace depthwise_int8
}  // namespace pyruntime
