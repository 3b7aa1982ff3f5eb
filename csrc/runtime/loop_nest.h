// Walking up to four strided tensors together, as long inner runs inside an outer counter.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "base/shape.h"

namespace pyruntime {

constexpr int kMaxOperands = 4;

// Dimensions of size 1 are dropped, the others ordered by the strides of operand 0 (the output) and merged
// where all operands allow it. The last dimension is the inner run.
struct LoopNest {
  int operands = 0;
  std::vector<int64_t> size;                                // outermost first, at least one entry
  std::array<std::vector<int64_t>, kMaxOperands> stride{};  // elements

  int rank() const { return static_cast<int>(size.size()); }
  int64_t inner() const { return size.back(); }
  int64_t outer() const {
    int64_t n = 1;
    for (size_t i = 0; i + 1 < size.size(); ++i) n *= size[i];
    return n;
  }
  int64_t inner_stride(int operand) const { return stride[operand].back(); }
};

// `strides[0]` belongs to the output. All have the rank of `shape`; stride 0 broadcasts.
LoopNest make_nest(const Shape& shape, const std::vector<Strides>& strides);

// Strides of a tensor of `shape` seen as one of `target` by NumPy broadcasting. Shapes are known to be
// compatible.
Strides broadcast_strides(const Shape& shape, const Strides& strides, const Shape& target);
// NumPy broadcast of two shapes; false if they do not fit.
bool broadcast_shapes(const Shape& a, const Shape& b, Shape* result);

// Division of a nest into tasks: units are outer indices, or parts of the inner run when there are few outer
// ones.
struct NestSplit {
  int64_t outer = 1, inner = 1;
  int64_t parts = 1, part_size = 1;  // of the inner run
  int tasks = 1;
};
// Parts of the inner run begin at multiples of `granule`.
NestSplit split_nest(const LoopNest& nest, int tasks, int64_t granule = 64);

// Calls f(offsets, n) for the runs of one task; offsets are in elements, one per operand.
template <typename F>
void for_each_run(const LoopNest& nest, const NestSplit& split, int task, F&& f) {
  const int64_t units = split.outer * split.parts;
  const int64_t begin = units * task / split.tasks, end = units * (task + 1) / split.tasks;
  if (begin >= end) return;
  const int outer_rank = nest.rank() - 1;
  std::array<int64_t, 16> index{};
  std::array<int64_t, kMaxOperands> base{};
  int64_t rest = begin / split.parts, part = begin % split.parts;
  for (int d = outer_rank - 1; d >= 0; --d) {
    index[d] = rest % nest.size[d];
    rest /= nest.size[d];
    for (int o = 0; o < nest.operands; ++o) base[o] += index[d] * nest.stride[o][d];
  }
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t first = part * split.part_size;
    const int64_t n = std::min(split.part_size, split.inner - first);
    if (n > 0) {
      std::array<int64_t, kMaxOperands> offset = base;
      for (int o = 0; o < nest.operands; ++o) offset[o] += first * nest.stride[o].back();
      f(offset, n);
    }
    if (++part < split.parts) continue;
    part = 0;
    for (int d = outer_rank - 1; d >= 0; --d) {
      for (int o = 0; o < nest.operands; ++o) base[o] += nest.stride[o][d];
      if (++index[d] < nest.size[d]) break;
      for (int o = 0; o < nest.operands; ++o) base[o] -= nest.stride[o][d] * nest.size[d];
      index[d] = 0;
    }
  }
}

// n elements with a stride of any size as a contiguous run: the memory itself, or `buffer` filled with
// copies.
template <typename T>
const T* as_run(const T* x, int64_t stride, int64_t n, T* buffer) {
  if (stride == 1 || n <= 1) return x;
  if (stride == 0) {
    std::fill_n(buffer, n, *x);
  } else {
    for (int64_t i = 0; i < n; ++i) buffer[i] = x[i * stride];
  }
  return buffer;
}

}  // namespace pyruntime
