// Numbers of the format of entropy-coded blocks (docs/format.md, section 4).
#pragma once

#include <cstddef>
#include <cstdint>

namespace pyruntime {
namespace entropy {

constexpr int kScaleBits = 12;
constexpr uint32_t kScale = 1u << kScaleBits;  // what the frequencies of a context add up to
constexpr uint32_t kLow = 1u << 16;            // states of the coders are not below
constexpr int kLaneBits = 5;
constexpr int kMaxLanes = 1 << kLaneBits;
constexpr int kMaxClassBits = 4;
constexpr int kMaxContextBits = 6;
constexpr int kStates = 11;  // contexts of a zero flag within a group of four columns

// Where the flag of column k stands: `count` symbols other than 0 among the columns before it in its group of
// four; for the first of a group, in the group before it, of which only counts whether there are any.
[[gnu::always_inline]] static inline int flag_state(size_t k, int count) {
  constexpr int kBase[4] = {0, 2, 4, 7};
  const int position = static_cast<int>(k & 3);
  return kBase[position] + (position == 0 ? (count > 0) : count);
}

}  // namespace entropy
}  // namespace pyruntime
