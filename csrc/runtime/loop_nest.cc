#include "runtime/loop_nest.h"

#include <cstdlib>

namespace pyruntime {

LoopNest make_nest(const Shape& shape, const std::vector<Strides>& strides) {
  LoopNest nest;
  nest.operands = static_cast<int>(strides.size());
  std::vector<int> order;
  for (int d = 0; d < static_cast<int>(shape.size()); ++d) {
    if (shape[d] != 1) order.push_back(d);
  }
  if (order.size() > 16) throw Error("a tensor has more than 16 dimensions");
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return std::llabs(strides[0][a]) > std::llabs(strides[0][b]); });
  for (int d : order) {
    bool merged = !nest.size.empty();
    for (int o = 0; o < nest.operands && merged; ++o)
      merged = nest.stride[o].back() == strides[o][d] * shape[d];
    if (merged) {
      nest.size.back() *= shape[d];
      for (int o = 0; o < nest.operands; ++o) nest.stride[o].back() = strides[o][d];
    } else {
      nest.size.push_back(shape[d]);
      for (int o = 0; o < nest.operands; ++o) nest.stride[o].push_back(strides[o][d]);
    }
  }
  if (nest.size.empty() || nest.stride[0].back() != 1) {  // e.g. one channel and one column beside a halo
    nest.size.push_back(1);
    for (int o = 0; o < nest.operands; ++o) nest.stride[o].push_back(1);
  }
  return nest;
}

Strides broadcast_strides(const Shape& shape, const Strides& strides, const Shape& target) {
  Strides result(target.size(), 0);
  const size_t lead = target.size() - shape.size();
  for (size_t d = 0; d < shape.size(); ++d) result[lead + d] = shape[d] == 1 ? 0 : strides[d];
  return result;
}

bool broadcast_shapes(const Shape& a, const Shape& b, Shape* result) {
  const size_t rank = std::max(a.size(), b.size());
  result->assign(rank, 1);
  for (size_t i = 0; i < rank; ++i) {
    const int64_t x = i < rank - a.size() ? 1 : a[i - (rank - a.size())];
    const int64_t y = i < rank - b.size() ? 1 : b[i - (rank - b.size())];
    if (x != y && x != 1 && y != 1) return false;
    (*result)[i] = x == 1 ? y : x;
  }
  return true;
}

NestSplit split_nest(const LoopNest& nest, int tasks, int64_t granule) {
  NestSplit s;
  s.outer = nest.outer();
  s.inner = nest.inner();
  s.part_size = s.inner;
  if (tasks > 1 && s.outer < tasks && s.inner >= 256) {
    const int64_t want = (tasks + s.outer - 1) / s.outer;
    s.part_size = ((s.inner + want - 1) / want + granule - 1) / granule * granule;
    s.parts = (s.inner + s.part_size - 1) / s.part_size;
  }
  s.tasks = static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(tasks, s.outer * s.parts)));
  return s;
}

}  // namespace pyruntime
