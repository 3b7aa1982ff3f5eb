// A lookup table applied by the layer that makes its input.
#pragma once

#include "kernels/lut/lut.h"
#include "runtime/kernel_choice.h"
#include "runtime/layer.h"

namespace pyruntime {

// A table applied to what a task has just written, while it is in cache.
class TableEpilogue {
 public:
  TableEpilogue(const PlanContext& context, const GridStrides& y) : active_(context.table != nullptr), y_(y) {
    if (!active_) return;
    table_ = *context.table;
    int count = 0;
    const LutKernel* rows = lut_kernels(&count);
    kernel_ = &strongest_row(rows, count, context.isa, "lut");
  }

  // `y` is channel 0 of the first pixel of the piece; the layer (or group) has n channels.
  void run(void* y, const LayerPiece& p, int64_t n) const {
    if (!active_) return;
    const size_t channels = static_cast<size_t>(p.n_end - p.n_begin);
    const bool whole_pixels = p.n_end - p.n_begin == n && y_.col == n;
    for (int64_t row = 0; row < p.rows; ++row) {
      uint8_t* first = static_cast<uint8_t*>(y) + row * y_.row + p.n_begin;
      if (whole_pixels) {
        kernel_->run(channels * static_cast<size_t>(p.cols), first, table_.data(), first);
        continue;
      }
      for (int64_t col = 0; col < p.cols; ++col) {
        uint8_t* pixel = first + col * y_.col;
        kernel_->run(channels, pixel, table_.data(), pixel);
      }
    }
  }

 private:
  bool active_;
  GridStrides y_;
  Table table_{};
  const LutKernel* kernel_ = nullptr;
};

}  // namespace pyruntime
