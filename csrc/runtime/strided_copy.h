// Moving elements between layouts: copies of strided tensors and gathers by one index map per axis.
#pragma once

#include "runtime/operator.h"

namespace pyruntime {

// Copies `src` (strides already in the order of dst's axes) into `dst`, both of dst's shape. `item` is 1, 4
// or 8 bytes.
class StridedCopy {
 public:
  StridedCopy() = default;
  StridedCopy(const Shape& shape, const Strides& dst, const Strides& src, size_t item, int max_tasks);
  int tasks() const { return tasks_; }
  void run(char* dst, const char* src, int task) const;

 private:
  std::vector<int64_t> size_;       // outer dimensions, then the plane (rows, run)
  std::vector<int64_t> dst_, src_;  // strides in elements, same order
  size_t item_ = 1;
  int64_t outer_ = 1, row_parts_ = 1, rows_per_part_ = 1;
  int tasks_ = 1;
};

// dst[i0, i1, ...] = src[map0[i0], map1[i1], ...]; an index of -1 gives the fill value. Used by pad and
// resize.
class MappedCopy {
 public:
  MappedCopy(const Tensor& dst, const Tensor& src, std::vector<std::vector<int64_t>> maps, int max_tasks);
  int tasks() const { return tasks_; }
  // `fill` points to one element.
  void run(char* dst, const char* src, const void* fill, int task) const;

 private:
  std::vector<int> order_;  // axes, outermost first by dst stride
  Shape shape_;
  Strides dst_, src_;
  std::vector<std::vector<int64_t>> maps_;
  bool inner_is_run_ = false;  // the last axis of order_ is contiguous on both sides
  size_t item_ = 1;
  int64_t outer_ = 1;
  int tasks_ = 1;
};

// Cells of the halo of a channels-last tensor set to one byte pattern (0 for f32).
void fill_halo(const Tensor& t, char* data, uint8_t byte);

// A step that copies `from` to `to` (same shape and dtype).
Step make_copy_step(const Operand& from, const Operand& to, int num_threads);

}  // namespace pyruntime
