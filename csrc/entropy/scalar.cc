// The specification of the decoder's loops, and what runs where there is no better.
#include "entropy/decode_kernel.h"

namespace pyruntime {
namespace entropy {
namespace {

// The state after a symbol, with a word shifted in if it fell below its range. A branch would be a coin toss.
[[gnu::always_inline]] inline uint32_t refill(uint32_t x, const uint8_t*& next) {
  const uint32_t low = x < kLow;
  const uint32_t word = (next[0] | static_cast<uint32_t>(next[1]) << 8) & (0u - low);
  next += 2 * low;
  return x << (16 * low) | word;
}

// What a store through a pointer to bytes may change as far as the compiler knows (all that is not local) is
// copied first.
const uint8_t* decode_joint(const Bundle& bundle, const Columns& columns, const uint8_t* next) {
  uint32_t x[kMaxLanes];
  const Slot* tables[kMaxLanes];
  const int lanes = bundle.lanes;
  for (int l = 0; l < lanes; ++l) {
    x[l] = bundle.x[l];
    tables[l] = bundle.slots + bundle.lane_slots[l];
  }
  const size_t stride = bundle.slot_stride;
  for (int i = 0; i < columns.count; ++i) {
    const size_t offset = columns.column_class[i] * stride;
    uint8_t* out = columns.out + size_t{kMaxLanes} * columns.place[i];
    for (int l = 0; l < lanes; ++l) {
      const Slot slot = tables[l][offset + (x[l] & (kScale - 1))];
      out[l] = static_cast<uint8_t>(slot);
      x[l] = refill(((slot >> 8 & 0xFFF) + 1) * (x[l] >> kScaleBits) + (slot >> 20), next);
    }
  }
  for (int l = 0; l < lanes; ++l) bundle.x[l] = x[l];
  return next;
}

template <bool kWithStates>
const uint8_t* decode_split(const Bundle& bundle, const Columns& columns, const uint8_t* next) {
  constexpr int kCount = kWithStates ? kStates : 1;
  uint32_t x[kMaxLanes];
  int32_t count[kMaxLanes];
  const int lanes = bundle.lanes;
  for (int l = 0; l < lanes; ++l) x[l] = bundle.x[l];
  for (int l = 0; l < lanes; ++l) count[l] = bundle.count[l];
  for (int i = 0; i < columns.count; ++i) {
    const size_t c = columns.column_class[i], k = columns.first + static_cast<size_t>(i);
    uint8_t* out = columns.out + size_t{kMaxLanes} * columns.place[i];
    int used[kMaxLanes], uses = 0;
    for (int l = 0; l < lanes; ++l) {
      const int state = kWithStates ? flag_state(k, count[l]) : 0;
      const uint32_t p = bundle.zero[bundle.lane_zero[l] + c * kCount + state];
      const uint32_t slot = x[l] & (kScale - 1), high = x[l] >> kScaleBits;
      const bool is_zero = slot < p;
      if (is_zero) {
        out[l] = 0;
        x[l] = refill(p * high + slot, next);
      } else {
        used[uses++] = l;
        x[l] = refill((kScale - p) * high + slot - p, next);
      }
      if (kWithStates) count[l] = ((k & 3) == 0 ? 0 : count[l]) + !is_zero;
    }
    const Slot* table = bundle.slots + c * bundle.slot_stride;
    for (int u = 0; u < uses; ++u) {
      const int l = used[u];
      const Slot slot = table[bundle.lane_slots[l] + (x[l] & (kScale - 1))];
      out[l] = static_cast<uint8_t>(slot);
      x[l] = refill(((slot >> 8 & 0xFFF) + 1) * (x[l] >> kScaleBits) + (slot >> 20), next);
    }
  }
  for (int l = 0; l < lanes; ++l) bundle.x[l] = x[l];
  for (int l = 0; l < lanes; ++l) bundle.count[l] = count[l];
  return next;
}

const uint8_t* decode_columns(const Bundle& bundle, const Columns& columns, int zeros, const uint8_t* next) {
  if (zeros == 0) return decode_joint(bundle, columns, next);
  return zeros == 1 ? decode_split<false>(bundle, columns, next) : decode_split<true>(bundle, columns, next);
}

void write_rows(const uint8_t* from, size_t columns, int lanes, uint8_t* const* rows) {
  for (int l = 0; l < lanes; ++l) {
    uint8_t* row = rows[l];
    for (size_t k = 0; k < columns; ++k) row[k] = from[kMaxLanes * k + l];
  }
}

}  // namespace

extern const DecodeKernel decode__scalar;
const DecodeKernel decode__scalar = {Isa::scalar, decode_columns, write_rows};

}  // namespace entropy
}  // namespace pyruntime
