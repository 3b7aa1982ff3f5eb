// Offsets in one arena for buffers that live during a range of steps.
#pragma once

#include <cstddef>
#include <vector>

namespace pyruntime {

struct BufferLife {
  size_t bytes = 0;
  int first = 0, last = 0;  // steps that touch it, inclusive
  size_t offset = 0;        // result
};

// Sets the offsets (multiples of 64, buffers that live at the same time do not overlap) and returns the
// arena's size. Largest first, each into the tightest gap that holds it.
size_t plan_memory(std::vector<BufferLife>& buffers);

}  // namespace pyruntime
