// Walks the nonzero 1x4 blocks of dense weights; used by the sparse packings.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/conv_int8/conv_int8.h"

namespace pyruntime {
namespace conv_int8 {

// Whether x0 * w0 + x1 * w1 of 0 <= x <= 255 can leave 16 bits. Weights of unlike signs never do.
inline bool pair_saturates(const int8_t* w) {
  const int sum = w[0] + w[1];
  return sum > 128 || sum < -128;
}

inline unsigned entries_of_block(const int8_t* w, bool pairs) {
  uint32_t bits;
  std::memcpy(&bits, w, 4);
  return (bits != 0) + (pairs & (pair_saturates(w) | pair_saturates(w + 2)));
}

// How often for_each_block calls visit.
inline size_t count_blocks(const ConvInt8Weights& weights, int channel, bool pairs) {
  const int8_t* w = weights.w + static_cast<ptrdiff_t>(channel) * weights.taps * weights.k;
  size_t count = 0;
  for (int tap = 0; tap < weights.taps; ++tap, w += weights.k) {
    for (int c = 0; c + 4 <= weights.k; c += 4) count += entries_of_block(w + c, pairs);
    if (weights.k % 4 != 0) {
      int8_t value[4] = {};
      std::memcpy(value, w + weights.k / 4 * 4, static_cast<size_t>(weights.k % 4));
      count += entries_of_block(value, pairs);
    }
  }
  return count;
}

// Numbers of the nonzero ones of `count` blocks of 1 or 4 weights. Without branches: of weights of which one
// block in ten is not zero, branches took 5 times as long.
template <int kWeights>
int list_blocks(const int8_t* w, int count, uint16_t* number) {
  int listed = 0;
  for (int i = 0; i < count; ++i) {
    uint32_t bits = 0;
    std::memcpy(&bits, w + kWeights * i, kWeights);
    number[listed] = static_cast<uint16_t>(i);
    listed += bits != 0;
  }
  return listed;
}

// Calls visit(block, weights[4]) for every nonzero block of one output channel, split where `pairs` demands
// it.
template <typename Visit>
void for_each_block(const ConvInt8Weights& weights, int channel, bool pairs, Visit visit) {
  constexpr int kAtOnce = 256;
  const int whole = weights.k / 4, blocks = (weights.k + 3) / 4;
  const auto visit_block = [&](int block, const int8_t* w) {
    if (pairs && (pair_saturates(w) || pair_saturates(w + 2))) {
      const int8_t even[4] = {w[0], 0, w[2], 0}, odd[4] = {0, w[1], 0, w[3]};
      visit(block, even);
      visit(block, odd);
    } else {
      visit(block, w);
    }
  };
  const int8_t* w = weights.w + static_cast<ptrdiff_t>(channel) * weights.taps * weights.k;
  for (int tap = 0; tap < weights.taps; ++tap, w += weights.k) {
    for (int first = 0; first < whole; first += kAtOnce) {
      uint16_t number[kAtOnce];
      const int listed = list_blocks<4>(w + 4 * first, std::min(whole - first, kAtOnce), number);
      for (int i = 0; i < listed; ++i)
        visit_block(tap * blocks + first + number[i], w + 4 * (first + number[i]));
    }
    int8_t rest[4] = {};
    std::memcpy(rest, w + 4 * whole, static_cast<size_t>(weights.k % 4));
    if (whole < blocks && entries_of_block(rest, false) != 0) visit_block(tap * blocks + whole, rest);
  }
}

}  // namespace conv_int8
}  // namespace pyruntime
