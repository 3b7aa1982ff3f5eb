// Walks the nonzero 1x4 blocks of dense weights; used by the sparse packings.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/conv_int8/conv_int8.h"

namespace pyruntime {
namespace conv_int8 {

inline bool pair_saturates(const int8_t* w) {
  // u8 x s8 pair sums leave s16 above 32767 or below -32768; activations reach 255.
  const int positive = std::max<int>(w[0], 0) + std::max<int>(w[1], 0);
  const int negative = std::min<int>(w[0], 0) + std::min<int>(w[1], 0);
  return 255 * positive > 32767 || 255 * negative < -32768;
}

// Calls visit(block, weights[4]) for every nonzero block of one output channel, split where `pairs` demands
// it.
template <typename Visit>
void for_each_block(const ConvInt8Weights& weights, int channel, bool pairs, Visit visit) {
  const int8_t* w = weights.w + static_cast<ptrdiff_t>(channel) * weights.taps * weights.k;
  int block = 0;
  for (int tap = 0; tap < weights.taps; ++tap, w += weights.k) {
    for (int c = 0; c < weights.k; c += 4, ++block) {
      int8_t value[4] = {};
      std::copy(w + c, w + std::min(c + 4, weights.k), value);
      if ((value[0] | value[1] | value[2] | value[3]) == 0) continue;
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
