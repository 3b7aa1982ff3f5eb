#include "runtime/strided_copy.h"

#include <algorithm>
#include <cstring>

#include "runtime/kernel_choice.h"
#include "runtime/loop_nest.h"

namespace pyruntime {
namespace {

constexpr int64_t kBlock = 32;  // edge of a transposition tile

// Rows of N elements, N small, as of images with few channels: a loop or a call per row would cost more than
// the copy.
template <typename T, int N>
void copy_short_rows(T* dst, const T* src, int64_t rows, int64_t dst_row, int64_t dst_col, int64_t src_row,
                     int64_t src_col) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int i = 0; i < N; ++i) dst[r * dst_row + i * dst_col] = src[r * src_row + i * src_col];
  }
}

template <typename T>
constexpr void (*kShortRows[])(T*, const T*, int64_t, int64_t, int64_t, int64_t, int64_t) = {
    copy_short_rows<T, 1>, copy_short_rows<T, 2>, copy_short_rows<T, 3>, copy_short_rows<T, 4>,
    copy_short_rows<T, 5>, copy_short_rows<T, 6>, copy_short_rows<T, 7>, copy_short_rows<T, 8>};

// rows x n elements; the faster of two loop orders is a tile walk when neither side is contiguous on both
// axes.
template <typename T>
void copy_plane(char* dst_bytes, const char* src_bytes, int64_t rows, int64_t n, int64_t dst_row,
                int64_t dst_col, int64_t src_row, int64_t src_col) {
  T* dst = reinterpret_cast<T*>(dst_bytes);
  const T* src = reinterpret_cast<const T*>(src_bytes);
  if (n <= 8) {
    auto* copy = kShortRows<T>[n - 1];
    copy(dst, src, rows, dst_row, dst_col, src_row, src_col);
    return;
  }
  if (dst_col == 1 && src_col == 1) {
    for (int64_t r = 0; r < rows; ++r) std::memcpy(dst + r * dst_row, src + r * src_row, n * sizeof(T));
    return;
  }
  for (int64_t r0 = 0; r0 < rows; r0 += kBlock) {
    const int64_t r1 = std::min(rows, r0 + kBlock);
    for (int64_t c0 = 0; c0 < n; c0 += kBlock) {
      const int64_t c1 = std::min(n, c0 + kBlock);
      for (int64_t r = r0; r < r1; ++r) {
        for (int64_t c = c0; c < c1; ++c) dst[r * dst_row + c * dst_col] = src[r * src_row + c * src_col];
      }
    }
  }
}

}  // namespace

StridedCopy::StridedCopy(const Shape& shape, const Strides& dst, const Strides& src, size_t item,
                         int max_tasks)
    : item_(item) {
  LoopNest nest = make_nest(shape, {dst, src});
  if (nest.rank() == 1 && max_tasks > 1 && nest.inner() >= 4096 && nest.inner_stride(0) == 1) {
    // Cut one long run into rows so that it can be shared out.
    const int64_t n = nest.inner();
    for (int64_t parts = 64; parts > 1; parts /= 2) {
      if (n % parts != 0) continue;
      const int64_t run = n / parts;
      nest.size = {parts, run};
      nest.stride[0] = {run * nest.stride[0][0], nest.stride[0][0]};
      nest.stride[1] = {run * nest.stride[1][0], nest.stride[1][0]};
      break;
    }
  }
  if (nest.rank() == 1) {
    nest.size.insert(nest.size.begin(), 1);
    nest.stride[0].insert(nest.stride[0].begin(), 0);
    nest.stride[1].insert(nest.stride[1].begin(), 0);
  }
  // The row axis of the plane is the one along which the source is densest.
  int rank = nest.rank();
  int row = rank - 2;
  if (std::llabs(nest.inner_stride(1)) != 1) {
    for (int d = 0; d + 1 < rank; ++d) {
      if (std::llabs(nest.stride[1][d]) < std::llabs(nest.stride[1][row]) && nest.size[d] > 1) row = d;
    }
  }
  auto move_row = [&](std::vector<int64_t>& v) {
    std::rotate(v.begin() + row, v.begin() + row + 1, v.end() - 1);
  };
  move_row(nest.size);
  move_row(nest.stride[0]);
  move_row(nest.stride[1]);
  size_ = nest.size;
  dst_ = nest.stride[0];
  src_ = nest.stride[1];
  for (int d = 0; d < rank - 2; ++d) outer_ *= size_[d];
  const int64_t rows = size_[rank - 2];
  if (outer_ < max_tasks) row_parts_ = std::min<int64_t>(rows, (max_tasks + outer_ - 1) / outer_);
  rows_per_part_ = (rows + row_parts_ - 1) / row_parts_;
  row_parts_ = (rows + rows_per_part_ - 1) / rows_per_part_;
  tasks_ = static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(max_tasks, outer_ * row_parts_)));
}

void StridedCopy::run(char* dst, const char* src, int task) const {
  const int rank = static_cast<int>(size_.size());
  const int64_t units = outer_ * row_parts_;
  const int64_t begin = units * task / tasks_, end = units * (task + 1) / tasks_;
  const int64_t item = static_cast<int64_t>(item_);
  for (int64_t unit = begin; unit < end; ++unit) {
    int64_t rest = unit / row_parts_;
    const int64_t row = unit % row_parts_ * rows_per_part_;
    const int64_t rows = std::min(rows_per_part_, size_[rank - 2] - row);
    int64_t dst_offset = row * dst_[rank - 2], src_offset = row * src_[rank - 2];
    for (int d = rank - 3; d >= 0; --d) {
      dst_offset += rest % size_[d] * dst_[d];
      src_offset += rest % size_[d] * src_[d];
      rest /= size_[d];
    }
    auto* plane = item_ == 1 ? copy_plane<uint8_t> : item_ == 4 ? copy_plane<uint32_t> : copy_plane<uint64_t>;
    plane(dst + dst_offset * item, src + src_offset * item, rows, size_[rank - 1], dst_[rank - 2],
          dst_[rank - 1], src_[rank - 2], src_[rank - 1]);
  }
}

MappedCopy::MappedCopy(const Tensor& dst, const Tensor& src, std::vector<std::vector<int64_t>> maps,
                       int max_tasks)
    : shape_(dst.shape), dst_(dst.strides), src_(src.strides), maps_(std::move(maps)), item_(dst.item()) {
  const int rank = static_cast<int>(shape_.size());
  for (int d = 0; d < rank; ++d) order_.push_back(d);
  std::stable_sort(order_.begin(), order_.end(), [&](int a, int b) {
    if ((shape_[a] == 1) != (shape_[b] == 1)) return shape_[a] == 1;  // dimensions of size 1 go outermost
    return dst_[a] > dst_[b];
  });
  if (rank == 0) return;
  const int inner = order_.back();
  const std::vector<int64_t>& map = maps_[inner];
  inner_is_run_ = dst_[inner] == 1 && src_[inner] == 1 && map[0] >= 0;
  for (size_t i = 0; i < map.size() && inner_is_run_; ++i)
    inner_is_run_ = map[i] == map[0] + static_cast<int64_t>(i);
  if (shape_[inner] == 1 && map[0] >= 0) inner_is_run_ = true;
  for (int i = 0; i + 1 < rank; ++i) outer_ *= shape_[order_[i]];
  tasks_ = static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(max_tasks, outer_)));
}

void MappedCopy::run(char* dst, const char* src, const void* fill, int task) const {
  const int64_t item = static_cast<int64_t>(item_);
  const int rank = static_cast<int>(order_.size());
  if (rank == 0) {
    std::memcpy(dst, src, item_);
    return;
  }
  const int inner = order_.back();
  const std::vector<int64_t>& map = maps_[inner];
  const int64_t n = shape_[inner];
  const int64_t begin = outer_ * task / tasks_, end = outer_ * (task + 1) / tasks_;
  for (int64_t unit = begin; unit < end; ++unit) {
    int64_t rest = unit, to = 0, from = 0;
    bool inside = true;
    for (int i = rank - 2; i >= 0; --i) {
      const int axis = order_[i];
      const int64_t index = rest % shape_[axis];
      rest /= shape_[axis];
      to += index * dst_[axis];
      inside = inside && maps_[axis][index] >= 0;
      from += maps_[axis][index] * src_[axis];
    }
    char* out = dst + to * item;
    if (inside && inner_is_run_) {
      std::memcpy(out, src + (from + map[0] * src_[inner]) * item, n * item_);
      continue;
    }
    for (int64_t i = 0; i < n; ++i) {
      const void* cell = inside && map[i] >= 0 ? src + (from + map[i] * src_[inner]) * item : fill;
      std::memcpy(out + i * dst_[inner] * item, cell, item_);
    }
  }
}

void fill_halo(const Tensor& t, char* data, uint8_t byte) {
  const size_t last = t.shape.size() - 1;
  const bool image = t.shape.size() == 4;
  const int64_t item = static_cast<int64_t>(t.item());
  const int64_t images = t.shape[0], rows = image ? t.shape[2] : 1, cols = t.shape[last];
  const int64_t col_pitch = t.strides[last] * item;
  const int64_t row_pitch = image ? t.strides[2] * item : cols * col_pitch;
  const int64_t image_pitch = t.strides[0] * item;
  const int64_t row_bytes = cols * col_pitch;
  const int64_t before = t.halo.top * row_pitch + t.halo.left * col_pitch;
  const int64_t after = t.halo.bottom * row_pitch + t.halo.right * col_pitch;
  // The right halo of a row is the left halo of the next one, likewise between images: only gaps are filled.
  if (before > 0) std::memset(data - before, byte, before);
  for (int64_t n = 0; n < images; ++n) {
    char* start = data + n * image_pitch;
    if (row_pitch > row_bytes) {
      for (int64_t r = 0; r + 1 < rows; ++r)
        std::memset(start + r * row_pitch + row_bytes, byte, row_pitch - row_bytes);
    }
    char* end = start + (rows - 1) * row_pitch + row_bytes;
    const int64_t gap = n + 1 < images ? start + image_pitch - end : after;
    if (gap > 0) std::memset(end, byte, gap);
  }
}

Step make_copy_step(const Operand& from, const Operand& to, int num_threads) {
  Step step;
  const double bytes = static_cast<double>(to.t.count()) * static_cast<double>(to.t.item());
  StridedCopy copy(to.t.shape, to.t.strides, from.t.strides, to.t.item(),
                   tasks_for_cycles(bytes / 2, num_threads));
  step.tasks = copy.tasks();
  step.kernel = "runtime:copy";
  step.precision = to.t.dtype == DType::f32 ? "float32" : "int8";
  step.run = [copy, from, to](const RunContext& run, int task, int) {
    copy.run(run.at<char>(to), run.at<const char>(from), task);
  };
  return step;
}

}  // namespace pyruntime
