// Weights of 4 bits that stay 4 bits wide in memory, for few pixels, where the time is that of reading them.
//
// A weight is level * multiplier, level in [-8, 7], with a multiplier (1 .. 128) for every 32 input channels
// of a tap and each output channel. That is what `int4,group=N` makes for N a multiple of 32, and all schemes
// of up to 4 bits that have a scale per output channel (multiplier 1). Whether a layer fits is found from its
// weights alone.
//
// panel16_int4: [n/16] panels, each: nibbles [taps][ceil(k/32)][8 groups of 4 input channels][32 bytes], then
// multipliers u8 [taps][ceil(k/32)][16 output channels]. Byte 4 i + c of a group holds level + 8 of input
// channel c: of output channel i in the low nibble, of i + 8 in the high one. Missing channels have level 0.
//
// Kernels multiply activations by level + 8 and subtract 8 times the sum of the activations, which is the
// same for all output channels. They read the activations from a copy whose missing channels are zero.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/conv_int8/conv_int8.h"

namespace pyruntime {
namespace conv_int8 {

constexpr int kInt4Block = 32;        // input channels of one multiplier
constexpr int kInt4BlockBytes = 256;  // nibbles of a block and panel
constexpr int kInt4Offset = 8;        // what is added to a level
constexpr int kInt4Pixels = 4;        // most pixels processed together

[[gnu::always_inline]] static inline int int4_blocks(int taps, int k) {
  return taps * ((k + kInt4Block - 1) / kInt4Block);
}

// Bytes from one panel to the next; not a multiple of 4 KB (panel16_stride says why).
[[gnu::always_inline]] static inline ptrdiff_t int4_panel_stride(int blocks) {
  const ptrdiff_t bytes = static_cast<ptrdiff_t>(blocks) * (kInt4BlockBytes + 16);
  return (bytes + 63) / 64 * 64 + (bytes % 4096 == 0 ? 64 : 0);
}

// Whether every weight of the layer is such a product.
bool fits_int4(const ConvInt8Weights& weights);

size_t packed_bytes_panel16_int4(const ConvInt8Weights& weights);

// The weights must fit.
void pack_panel16_int4(const ConvInt8Weights& weights, void* packed);

// The copies of the activations of so many pixels, and a s32 for each block.
inline size_t scratch_bytes_panel16_int4(const ConvInt8Args& args) {
  return static_cast<size_t>(kInt4Pixels) * int4_blocks(args.taps, args.k) * (kInt4Block + 4);
}

// Copies the activations of one pixel, taps side by side, each in whole blocks.
[[gnu::always_inline]] static inline void int4_inputs(const ConvInt8Args& args, const uint8_t* x,
                                                      uint8_t* inputs) {
  const int tap_bytes = (args.k + kInt4Block - 1) / kInt4Block * kInt4Block;
  for (int t = 0; t < args.taps; ++t, inputs += tap_bytes) {
    __builtin_memcpy(inputs, x + args.tap_offset[t], static_cast<size_t>(args.k));
    __builtin_memset(inputs + args.k, 0, static_cast<size_t>(tap_bytes - args.k));
  }
}

}  // namespace conv_int8
}  // namespace pyruntime
