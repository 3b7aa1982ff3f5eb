// Sparse weights for many pixels, for kernels with VPDPBUSD: the lists of nonzero 1x4 blocks of two output
// channels walked side by side. The end of a list is a mispredicted branch, which costs as much as six
// blocks: so lists end two by two, and within every group of 16 channels they are sorted by length, which
// leaves little to pad.
//
// The inputs of all pixels worked on should stay in L1, those of many channels do not: so lists are cut into
// chunks of input channels, and sums wait in memory from one to the next.
//
// Packed form, block4_twins, of every chunk and group: uint32 first[8], the steps of each pair of channels,
// and one more at the end of all; uint8 channel[16], which two channels of the group; uint8 position[16], the
// converse; then, 64-byte aligned, the steps: TwinStep.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/conv_int8/conv_int8.h"

namespace pyruntime {
namespace conv_int8 {

constexpr int kTwinGroup = 16;   // channels
constexpr int kTwinPixels = 16;  // a vector
constexpr int kTwinVectors = 7;  // of a strip, at most: four channels of them are 28 accumulators

// A block of both channels: four s8 each, zero where the shorter list has ended, and the numbers of the
// blocks, tap * ceil(k / 4) + channel / 4, 16 bits each: the first channel's are the lower ones. One load.
struct TwinStep {
  int32_t weights[2];
  uint32_t blocks;
};

struct SparseTwins {
  int groups, chunks;
  const uint32_t* first;
  const uint8_t *channel, *position;
  const TwinStep* steps;
};

// Blocks of 4 input channels that a chunk holds: 7 vectors of pixels for each, or the 27 of a 3x3 window, are
// 20 KB.
static inline int twin_chunks(int taps, int k) {
  const int most = taps == 1 ? 1000 : 36;
  return ((k + 3) / 4 + most - 1) / most;
}

static inline int twin_chunk_blocks(int taps, int k) {
  const int chunks = twin_chunks(taps, k);
  return ((k + 3) / 4 + chunks - 1) / chunks;
}

// View of what pack_block4_twins wrote.
static inline SparseTwins sparse_twins(const void* packed, int n, int taps, int k) {
  SparseTwins t;
  t.groups = (n + kTwinGroup - 1) / kTwinGroup;
  t.chunks = twin_chunks(taps, k);
  const size_t channels = static_cast<size_t>(t.groups) * kTwinGroup * static_cast<size_t>(t.chunks);
  t.first = static_cast<const uint32_t*>(packed);
  t.channel = reinterpret_cast<const uint8_t*>(t.first + channels / 2 + 1);
  t.position = t.channel + channels;
  const uintptr_t end = reinterpret_cast<uintptr_t>(t.position + channels);
  t.steps = reinterpret_cast<const TwinStep*>((end + 63) / 64 * 64);
  return t;
}

size_t packed_bytes_block4_twins(const ConvInt8Weights& weights);
void pack_block4_twins(const ConvInt8Weights& weights, void* packed);
size_t scratch_bytes_block4_twins(const ConvInt8Args& args);

}  // namespace conv_int8
}  // namespace pyruntime
