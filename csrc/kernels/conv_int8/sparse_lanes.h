// Sparse weights for few pixels (batch-1 dense layers): 16 output channels side by side, inputs fetched by a
// byte or dword permutation instead of a gather.
//
// The inputs of one pixel are laid out as positions tap * round_up(k, 4) + channel and cut into windows of
// 128 bytes (two ZMM registers). A *slot* is 16 lanes, one per output channel; lane i holds 4 weights of
// channel i that lie in one window and where in the window their inputs are:
//   block4   one index byte: the dword of the window; the 4 weights are one 1x4 block
//   bitmask  four index bytes: one byte position per weight; any 4 nonzero weights of the window
// A lane with nothing left is filled with zero weights. Within a group of 16 channels the windows are ordered
// by their number of slots, so that the slot loop has the same trip count for a run of windows (a
// mispredicted exit costs as much as five slots).
//
// Packed form: SparseLanesHeader, SparseLanesGroup[groups], then the runs (u16: slots, windows, window
// numbers...; 0 ends a group), index bytes and weights of all groups.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/conv_int8/conv_int8.h"

namespace pyruntime {
namespace conv_int8 {

constexpr int kLanes = 16;         // output channels a group
constexpr int kWindowBytes = 128;  // inputs a window

struct SparseLanesHeader {
  int32_t input_bytes;                                 // padded to whole windows
  int32_t tap_bytes;                                   // round_up(k, 4)
  uint32_t runs_offset, index_offset, weights_offset;  // bytes from the header
  uint32_t reserved;
};

struct SparseLanesGroup {
  uint32_t run;   // first u16 of its runs
  uint32_t slot;  // first slot
};

size_t packed_bytes_block4_lanes(const ConvInt8Weights& weights);
void pack_block4_lanes(const ConvInt8Weights& weights, void* packed);
size_t packed_bytes_bitmask_lanes(const ConvInt8Weights& weights);
void pack_bitmask_lanes(const ConvInt8Weights& weights, void* packed);
size_t scratch_bytes_block4_lanes(const ConvInt8Args& args);
size_t scratch_bytes_bitmask_lanes(const ConvInt8Args& args);

}  // namespace conv_int8
}  // namespace pyruntime
