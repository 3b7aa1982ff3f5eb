// The last panel of packing panel16 where it has at most 8 channels: 8 input channels of each in place of 4 of
// 16, so that no half of a vector is multiplied by zero.
//
// [taps][ceil(k / 8)][8 output channels][8 input channels]: a vector of VPDPBUSD, whose accumulators are two
// sums of every channel side by side.
#pragma once

#include "kernels/conv_int8/conv_int8.h"

namespace pyruntime {
namespace conv_int8 {

[[gnu::always_inline]] static inline bool ends_in_panel8(int n) { return n % 16 > 0 && n % 16 <= 8; }

// All pixels for the channels from `channel` on, the first of that panel, whose weights are at `w`; `general`
// says that the fast epilogue would not do.
void run_panel8__avx512vnni(const ConvInt8Args& args, const int8_t* w, int channel, bool general);

}  // namespace conv_int8
}  // namespace pyruntime
