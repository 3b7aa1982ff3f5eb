#include "kernels/depthwise_int8/pack.h"

namespace pyruntime {
namespace depthwise_int8 {

size_t packed_bytes_taps(int channels, int kh, int kw) { return static_cast<size_t>(channels) * kh * kw; }

void pack_taps(const int8_t* w, int channels, int kh, int kw, void* packed) {
  int8_t* out = static_cast<int8_t*>(packed);
  const int taps = kh * kw;
  for (int t = 0; t < taps; ++t) {
    for (int c = 0; c < channels; ++c) *out++ = w[static_cast<ptrdiff_t>(c) * taps + t];
  }
}

}  // namespace depthwise_int8
}  // namespace pyruntime
