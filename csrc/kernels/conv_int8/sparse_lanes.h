// Sparse weights for few pixels (batch-1 dense layers): 16 output channels side by side, inputs fetched by a
// byte or dword permutation instead of a gather.
//
// The inputs of one pixel are laid out as positions tap * round_up(k, 4) + channel. A *slot* is 16 lanes, one
// per output channel, and a window of 128 input bytes (two ZMM registers). Lane i holds 4 weights of channel
// i whose inputs lie in the window, and where in the window they lie:
//   block4   one index byte: the dword of the window; the 4 weights are one 1x4 block
//   bitmask  four index bytes: one byte position per weight; any 4 nonzero weights of the window
// The windows of a group of 16 channels move forward: the next one starts at the lowest input that any
// channel still needs, in steps of 16 bytes. So channels may be up to a window ahead of one another, and few
// lanes stay empty (zero weights): a layer at batch 1 takes as long as its slots take to be read.
//
// Packed form: SparseLanesHeader, uint32_t first slot[groups + 1], then of all slots how far their windows
// move (one byte: steps), the index bytes, and the weights.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/conv_int8/conv_int8.h"

namespace pyruntime {
namespace conv_int8 {

constexpr int kLanes = 16;         // output channels a group
constexpr int kWindowBytes = 128;  // inputs a window
constexpr int kWindowStep = 16;    // bytes

struct SparseLanesHeader {
  int32_t input_bytes;                                  // with what the last window reads beyond the inputs
  int32_t tap_bytes;                                    // round_up(k, 4)
  uint32_t steps_offset, index_offset, weights_offset;  // bytes from the header
  uint32_t reserved;
};

size_t packed_bytes_block4_lanes(const ConvInt8Weights& weights);
void pack_block4_lanes(const ConvInt8Weights& weights, void* packed);
size_t packed_bytes_bitmask_lanes(const ConvInt8Weights& weights);
void pack_bitmask_lanes(const ConvInt8Weights& weights, void* packed);
size_t scratch_bytes_block4_lanes(const ConvInt8Args& args);
size_t scratch_bytes_bitmask_lanes(const ConvInt8Args& args);

}  // namespace conv_int8
}  // namespace pyruntime
