// Panels of 8 output channels for AVX-512: layers of up to 24 channels, and the last few of others. They take
// 8 input channels of each in place of 4 of 16. So no half of a vector is multiplied by zero, and one
// broadcast of activations serves twice as many products.
//
// [panel][taps][ceil(k / 8)][8 output channels][8 input channels]: a vector of VPDPBUSD, whose accumulators
// are two sums of every channel side by side.
#pragma once

#include "kernels/conv_int8/conv_int8.h"

namespace pyruntime {
namespace conv_int8 {

// The first channel in panels of 8; n if there is none. What panels of 16 lose to zeros pays for the longer
// epilogue from so many products of an output on: 17 to 24 channels take 1.3 times as long with 24 products,
// 0.9 with 144, 0.8 with 576; 9 to 16 channels of one tap 1.3 with 16, 1.0 with 128, 0.9 with 256.
[[gnu::always_inline]] static inline int first_of_panel8(int n, int taps, int k) {
  constexpr int kProducts = 128;
  // With an odd number of groups of 4 input channels, 16 outputs are no better off in two panels.
  constexpr int kManyChannels = 36;
  const bool whole_steps = (k + 3) / 4 % 2 == 0 || k >= kManyChannels;
  const bool few = taps * k < kProducts;
  const int most = !whole_steps || (few && taps == 1) ? 8 : few ? 16 : 24;
  if (n <= most) return 0;
  return n % 32 > 0 && n % 32 <= 8 ? n / 32 * 32 : n;
}

// Bytes from one panel to the next; no multiple of 4 KB, as panel16_stride.
[[gnu::always_inline]] static inline ptrdiff_t panel8_stride(int taps, int k) {
  const ptrdiff_t bytes = static_cast<ptrdiff_t>(taps) * ((k + 7) / 8) * 64;
  return bytes % 4096 == 0 ? bytes + 64 : bytes;
}

// All pixels for the channels [begin, end), at most 24, whose panels start at `w`; `general` says that the
// fast epilogue would not do.
void run_panel8__avx512vnni(const ConvInt8Args& args, const int8_t* w, int begin, int end, bool general);

}  // namespace conv_int8
}  // namespace pyruntime
