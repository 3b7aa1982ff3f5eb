// Axis attributes: negative values count from the end.
#pragma once

#include "runtime/program.h"

namespace pyruntime {

// `axis` as 0..rank-1. Throws Error naming the node.
inline size_t resolve_axis(const NodeInfo& info, int64_t axis, size_t rank) {
  const int64_t r = static_cast<int64_t>(rank);
  if (axis < -r || axis >= r)
    info.fail("has axis " + std::to_string(axis) + " on a tensor of rank " + std::to_string(rank));
  return static_cast<size_t>(axis < 0 ? axis + r : axis);
}

// Flags per axis of a tensor of `rank`; each axis may be named once.
inline std::vector<bool> resolve_axes(const NodeInfo& info, const std::vector<int64_t>& axes, size_t rank) {
  std::vector<bool> chosen(rank, false);
  for (int64_t axis : axes) {
    const size_t a = resolve_axis(info, axis, rank);
    if (chosen[a]) info.fail("names axis " + std::to_string(axis) + " twice");
    chosen[a] = true;
  }
  return chosen;
}

}  // namespace pyruntime
