#include "runtime/memory_planner.h"

#include <algorithm>

namespace pyruntime {

size_t plan_memory(std::vector<BufferLife>& buffers) {
  std::vector<BufferLife*> order;
  for (BufferLife& b : buffers) {
    b.bytes = (b.bytes + 63) / 64 * 64;
    b.offset = 0;
    if (b.bytes > 0) order.push_back(&b);
  }
  std::stable_sort(order.begin(), order.end(),
                   [](const BufferLife* a, const BufferLife* b) { return a->bytes > b->bytes; });
  std::vector<const BufferLife*> placed;  // by offset
  size_t total = 0;
  for (BufferLife* buffer : order) {
    size_t end = 0, best = 0, best_gap = static_cast<size_t>(-1);
    for (const BufferLife* other : placed) {
      if (other->last < buffer->first || buffer->last < other->first) continue;
      if (other->offset >= end + buffer->bytes && other->offset - end < best_gap) {
        best = end;
        best_gap = other->offset - end;
      }
      end = std::max(end, other->offset + other->bytes);
    }
    buffer->offset = best_gap == static_cast<size_t>(-1) ? end : best;
    total = std::max(total, buffer->offset + buffer->bytes);
    placed.insert(
        std::upper_bound(placed.begin(), placed.end(), buffer,
                         [](const BufferLife* a, const BufferLife* b) { return a->offset < b->offset; }),
        buffer);
  }
  return total;
}

}  // namespace pyruntime
