// What a layer has to know of all its weights before it may run, in one pass.
#pragma once

#include <cstdint>

namespace pyruntime {

struct WeightCounts {
  int64_t sum = 0, magnitude = 0;   // of the weights, of them without sign
  int64_t nonzero = 0, blocks = 0;  // weights, and blocks of 4 of them, that are not (all) zero
};

// Adds `count` weights to what there is. Blocks are cut from the first one on; the last may be smaller.
void add_counts(const int8_t* w, int64_t count, WeightCounts* counts);

}  // namespace pyruntime
