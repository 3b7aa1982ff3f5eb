// Sparse weights for many pixels, for kernels with VPDPBUSD: the lists of nonzero 1x4 blocks of two output
// channels walked side by side. The end of a list is a mispredicted branch, which costs as much as six
// blocks: so lists end two by two, and within every group of 16 channels they are sorted by length, which
// leaves little to pad.
//
// Packed form, block4_twins: uint32 first[8 * groups + 1], the steps of each pair of channels; uint8
// channel[16 * groups], which two channels of the group; then, 64-byte aligned, for both channels of every
// step int32 weights (four s8, zero where the shorter list has ended) and uint16 block = tap * ceil(k / 4) +
// channel / 4.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/conv_int8/conv_int8.h"

namespace pyruntime {
namespace conv_int8 {

constexpr int kTwinGroup = 16;   // channels
constexpr int kTwinPixels = 16;  // a vector
constexpr int kTwinVectors = 8;  // of a strip, at most

struct SparseTwins {
  const uint32_t* first;
  const uint8_t* channel;
  const int32_t* weights;
  const uint16_t* block;
};

// View of what pack_block4_twins wrote.
static inline SparseTwins sparse_twins(const void* packed, int n) {
  const size_t groups = static_cast<size_t>((n + kTwinGroup - 1) / kTwinGroup),
               pairs = groups * kTwinGroup / 2;
  SparseTwins t;
  t.first = static_cast<const uint32_t*>(packed);
  t.channel = reinterpret_cast<const uint8_t*>(t.first + pairs + 1);
  const uintptr_t end = reinterpret_cast<uintptr_t>(t.channel + groups * kTwinGroup);
  t.weights = reinterpret_cast<const int32_t*>((end + 63) / 64 * 64);
  t.block = reinterpret_cast<const uint16_t*>(t.weights + 2 * static_cast<size_t>(t.first[pairs]));
  return t;
}

// Pixel vectors worked on together: their inputs should stay in L1.
static inline int twin_vectors(int taps, int k) {
  constexpr int64_t kInputBytes = 40 * 1024;
  const int64_t vectors = kInputBytes / (int64_t{taps} * ((k + 3) / 4) * kTwinPixels * 4);
  return vectors < 1 ? 1 : vectors > kTwinVectors ? kTwinVectors : static_cast<int>(vectors);
}

size_t packed_bytes_block4_twins(const ConvInt8Weights& weights);
void pack_block4_twins(const ConvInt8Weights& weights, void* packed);
size_t scratch_bytes_block4_twins(const ConvInt8Args& args);

}  // namespace conv_int8
}  // namespace pyruntime
