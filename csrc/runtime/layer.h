// Convolution and dense layers: what `conv` and `dense` share. An output pixel grid, taps, and a kernel row.
#pragma once

#include <functional>

#include "kernels/conv_int8/conv_int8.h"
#include "runtime/operator.h"
#include "runtime/weight_counts.h"

namespace pyruntime {

// n output channels; every group has k input and n / groups output channels.
struct LayerShape {
  int64_t n = 0, k = 0, kh = 1, kw = 1, groups = 1;
  int64_t taps() const { return kh * kw; }
  int64_t group_n() const { return n / groups; }
  bool depthwise() const { return groups > 1 && k == 1 && n == groups; }
};

// One side (input, output or residual) of the pixel grid: byte strides between output pixels.
struct GridStrides {
  ptrdiff_t image = 0, row = 0, col = 0;
};

struct LayerGrid {
  int64_t images = 1, rows = 1, cols = 0;
  GridStrides x, y, residual;
  bool has_residual = false;
  ptrdiff_t tap_origin = 0, tap_row = 0,
            tap_col = 0;  // bytes; tap (0, 0) of pixel (0, 0) is at x + tap_origin

  int64_t pixels() const { return images * rows * cols; }
  // Taps lie as far apart as pixels.
  bool is_window() const { return tap_row == x.row && tap_col == x.col; }
  // Merges rows into one row, and images into rows or into the one row, where all strides allow it.
  void collapse();
};

// A rectangle of work: what one task does.
struct LayerPiece {
  int64_t group, image, row, rows, col, cols, n_begin, n_end;
};

// Division of a grid and the output channels into tasks. Rows and columns are dealt out evenly, in blocks:
// parts differ by one at most. `row_size` and `col_size` are those of the largest part.
struct LayerSplit {
  int64_t groups = 1, images = 1, rows = 1, cols = 0, n = 0;
  int64_t row_parts = 1, row_size = 1, row_block = 1, col_parts = 1, col_size = 0, col_block = 1, n_parts = 1,
          n_size = 0;
  int tasks() const { return static_cast<int>(groups * images * row_parts * col_parts * n_parts); }
  LayerPiece piece(int task) const;
};

// Aims at `want` tasks. `n_block` is the granularity of channels, `pixel_block` that of the pixels of a
// single row; `split_channels` prefers channels over pixels (layers whose weights outweigh their
// activations).
LayerSplit split_layer(const LayerGrid& grid, int64_t groups, int64_t n, int64_t n_block, int64_t pixel_block,
                       int want, bool split_channels);

// For kernels that do something for each tile of pixels whatever the channels: of all divisions into
// `pixel_block` rows (columns where there is one row) and whole cache lines of channels, the one that takes
// `threads` threads the least time. `cycles(rows, cols, n)` are those of a piece.
LayerSplit split_tiles(const LayerGrid& grid, int64_t groups, int64_t n, int64_t n_block, int64_t pixel_block,
                       int threads,
                       const std::function<double(int64_t rows, int64_t cols, int64_t n)>& cycles);

// u8 x s8 layers: inputs x, w, multiplier, offset, residual (optional).
class Int8Layer {
 public:
  Int8Layer(const NodeInfo& info, const LayerShape& shape);
  // `residual` is input 4.
  Step prepare(const PlanContext& context, LayerGrid grid) const;

 private:
  // One way to hand the layer to a kernel: `merge` groups run as one (weights off the diagonal are zero), and
  // the taps of a row may be `folded` into one tap of kw * k channels, which are contiguous in memory.
  struct Packing {
    int64_t merge, groups, n, taps, k;  // n and k per merged group
    bool folded;
    double weights, blocks;  // fractions of nonzero weights and of nonzero blocks of 4 channels
    bool fits_int4, fits_winograd;
  };
  struct Choice;
  // `all` counts all weights in the order in which they stand in memory.
  Packing make_packing(int64_t merge, bool folded, const WeightCounts& all) const;
  const int8_t* in_memory(int64_t merge) const;  // the matrix, if the constant stands in its order, or null
  // [n][taps][k] of all merged groups: where the constant stands in that order, or made in `made`.
  const int8_t* matrix(int64_t merge, std::vector<int8_t>* made) const;
  void consider(const PlanContext& context, const Packing& packing, const ConvInt8Grid& grid,
                Choice* best) const;
  LayerSplit split(const PlanContext& context, const Choice& choice, const LayerGrid& grid,
                   size_t packed_bytes) const;
  std::shared_ptr<const AlignedBuffer> pack(const PlanContext& context, const Choice& choice,
                                            std::vector<size_t>* group_offset) const;
  Step prepare_groups(const PlanContext& context, const LayerGrid& grid) const;
  Step prepare_depthwise(const PlanContext& context, const LayerGrid& grid) const;
  struct Requant;

  NodeInfo info_;
  LayerShape shape_;
  std::shared_ptr<const Requant> requant_;
  std::vector<Packing> packings_;  // those worth a try
  int64_t largest_sum_ = 0;        // as fits_winograd() takes it
};

// float32 layers: inputs x, w, bias (optional), residual (optional).
class F32Layer {
 public:
  F32Layer(const NodeInfo& info, const LayerShape& shape);
  // `residual` is input 3.
  Step prepare(const PlanContext& context, LayerGrid grid) const;

 private:
  Step prepare_groups(const PlanContext& context, const LayerGrid& grid) const;
  Step prepare_depthwise(const PlanContext& context, const LayerGrid& grid) const;

  NodeInfo info_;
  LayerShape shape_;
  std::shared_ptr<const std::vector<float>> bias_;  // padded
  float lo_ = 0.0f, hi_ = 0.0f;
};

// True if the kw taps of a row and their k channels are one run of memory of `item`-byte elements.
bool taps_fold(const LayerShape& shape, const LayerGrid& grid, int64_t item);

// Offsets of the taps in (kh, kw) order, relative to the pixel. Throws Error if one does not fit 32 bits.
std::vector<int32_t> tap_offsets(const LayerShape& shape, const LayerGrid& grid);

// The nearest float below the smallest normal one is zero: subnormal weights only cost time.
inline float flush_subnormal(float v) { return (v < 1.17549435e-38f && v > -1.17549435e-38f) ? 0.0f : v; }

}  // namespace pyruntime
