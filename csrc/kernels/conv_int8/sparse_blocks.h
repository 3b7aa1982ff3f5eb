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

// Calls visit(block, weights[4]) for every nonzero block of one output channel, split where `pairs` demands
// it.
template <typename Visit>
void for_each_block(const ConvInt8Weights& weights, int channel, bool pairs, Visit visit) {
  const int8_t* w = weights.w + static_cast<ptrdiff_t>(channel) * weights.taps * weights.k;
  int block = 0;
  for (int tap = 0; tap < weights.taps; ++tap, w += weights.k) {
    for (int c = 0; c < weights.k; c += 4, ++block) {
      uint32_t bits = 0;
      if (c + 4 <= weights.k)
        std::memcpy(&bits, w + c, 4);
      else
        std::memcpy(&bits, w + c, static_cast<size_t>(weights.k - c));
      if (bits == 0) continue;
      int8_t value[4];
      std::memcpy(value, &bits, 4);
      if (pairs && (pair_saturates(value) || pair_saturates(value + 2))) {
        const int8_t even[4] = {value[0], 0, value[2], 0}, odd[4] = {0, value[1], 0, value[3]};
        visit(block, even);
        visit(block, odd);
      } else {
        visit(block, value);
      }
    }
  }
}

}  // namespace conv_int8
}  // namespace pyruntime
