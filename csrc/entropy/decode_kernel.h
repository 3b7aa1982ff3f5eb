// The inner loops of the decoder, one row per instruction set; all give the same symbols and read the same
// words.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/isa.h"
#include "entropy/constants.h"

namespace pyruntime {
namespace entropy {

// A slot of a table: symbol, frequency - 1 << 8 and position within the symbol's interval << 20.
using Slot = uint32_t;

// Rows that are decoded side by side, one to a lane.
struct Bundle {
  uint32_t* x;  // [kMaxLanes] states
  int lanes;    // those in use
  const Slot* slots;
  size_t slot_stride;         // from the table of a column class to that of the next
  const int32_t* lane_slots;  // [kMaxLanes] first slot of the tables of the lane's row class
  const uint32_t* zero;       // with flags: frequency of a zero; 8 more can be read
  const int32_t* lane_zero;   // [kMaxLanes] first of them of the lane's row class
  int32_t* count;             // [kMaxLanes] with states: `count` of flag_state
};

// Columns in the order in which they are coded. Column i goes to bytes out + kMaxLanes * place[i], in which
// only `rows` of the same kernel knows its way about.
struct Columns {
  int count;
  size_t first;  // with states: number of the first one; the others follow
  const uint8_t* column_class;
  const uint32_t* place;
  uint8_t* out;
};

struct DecodeKernel {
  Isa isa;
  // Reads words from `next` on, and returns the place of the first unread one. 16 bytes more than are read
  // must be readable. `zeros`: 0 for no flags, 1 for flags, 2 for flags with states.
  const uint8_t* (*columns)(const Bundle& bundle, const Columns& columns, int zeros, const uint8_t* next);
  // The rows of so many columns, from what `columns` left.
  void (*rows)(const uint8_t* from, size_t columns, int lanes, uint8_t* const* rows);
};

extern const DecodeKernel decode__scalar;
#ifdef PYRUNTIME_HAVE_AVX2
extern const DecodeKernel decode__avx2;
#endif

}  // namespace entropy
}  // namespace pyruntime
