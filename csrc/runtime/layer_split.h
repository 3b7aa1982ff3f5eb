// The grid of output pixels of a layer, and its division into tasks.
#pragma once

#include <functional>

#include "runtime/operator.h"

namespace pyruntime {

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
  int64_t pixel_parts() const { return row_parts * col_parts; }
  int tasks() const { return static_cast<int>(groups * images * row_parts * col_parts * n_parts); }
  LayerPiece piece(int task) const;
};

// Pixels that a grid is cut into: whole rows, or pieces of its only row.
inline int64_t pixel_granule(const LayerGrid& grid, int64_t pixel_block) {
  return grid.rows > 1 ? 1 : pixel_block;
}

// Cuts the rows of every image (its columns where there is one row) into `pixel_parts` parts of whole
// `pixel_block`s, and the channels of every group into `channel_parts` parts of whole cache lines; into fewer
// where there are not so many.
LayerSplit split_into(const LayerGrid& grid, int64_t groups, int64_t n, int64_t n_block, int64_t pixel_block,
                      int64_t pixel_parts, int64_t channel_parts);

// What a layer takes, whichever way it is divided.
struct LayerWork {
  double cycles;  // of one core
  double weight_bytes, input_bytes;
  bool few_tasks = false;  // each reads all the weights from beyond L2
};

// Divides a layer by pixels, or by channels where that takes less time: every thread reads all weights in the
// one case, in the other all inputs, most of which other cores have written. `n_block` is the granularity of
// channels, `pixel_block` that of the pixels of a single row.
LayerSplit split_layer(const PlanContext& context, const LayerGrid& grid, int64_t groups, int64_t n,
                       int64_t n_block, int64_t pixel_block, const LayerWork& work);

// Divisions that differ, worth a measurement: one task where the layer is short, else one, two and four for
// every thread, by pixels and by channels.
std::vector<LayerSplit> split_candidates(const LayerGrid& grid, int64_t groups, int64_t n, int64_t n_block,
                                         int64_t pixel_block, double cycles, int threads);

// Cycles to read inputs of so many bytes in all that `threads` threads have written, each to its own cache.
double fetch_cycles(double input_bytes, int threads);

// For kernels that do something for each tile of pixels whatever the channels: of all divisions into
// `pixel_block` rows (columns where there is one row) and whole cache lines of channels, the one that takes
// `threads` threads the least time. `cycles(rows, cols, n)` are those of a piece.
LayerSplit split_tiles(const LayerGrid& grid, int64_t groups, int64_t n, int64_t n_block, int64_t pixel_block,
                       int threads,
                       const std::function<double(int64_t rows, int64_t cols, int64_t n)>& cycles);

}  // namespace pyruntime
