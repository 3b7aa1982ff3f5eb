// Pixels of a window in the lanes of vectors. The 16 lanes stand lane_rows x lane_cols over the picture, each
// on a part of rows x cols pixels: vector (r, c) holds pixel (r, c) of every part. So an output pixel and all
// of its taps stand in whole vectors, a tap is a distance between vectors, and no load crosses a cache line.
// With neighbouring pixels in neighbouring lanes two of three did.
//
//   14 x 14 outputs, lanes 8 x 2: parts of 2 x 7, their inputs 4 x 9 vectors for every 4 channels
//
// Outputs go row by row of the parts; the inputs of one, reach_rows + 1 rows of vectors, are held in a ring.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/conv_int8/conv_int8.h"
#include "kernels/conv_int8/sparse_twins.h"

namespace pyruntime {
namespace conv_int8 {

struct TwinWindow {
  bool shared = false;  // else the taps lie otherwise, and every one gets inputs of its own
  int32_t origin = 0;   // offset of the first tap, bytes: taps before their pixel have negative ones
  int blocks = 0;       // of 4 channels in a pixel
  int reach_rows = 0, reach_cols = 0;  // the farthest tap
  int lane_rows = 1, lane_cols = kTwinPixels;
  int rows = 0, cols = 0;  // output pixels of a part

  // Forced inline: built for several instruction sets, no copy of it may be shared between them.
  [[gnu::always_inline]] int ring_rows() const { return reach_rows + 1; }
  [[gnu::always_inline]] int ring_cols() const { return cols + reach_cols; }
};

// Strips that a row of `cols` vectors is cut into.
[[gnu::always_inline]] static inline int twin_strips(int cols) {
  return (cols + kTwinVectors - 1) / kTwinVectors;
}

// Lanes so that there is least to do: with every strip its lists are read, which cost as 3 vectors. A row of
// a part is one strip wherever it can be.
[[gnu::always_inline]] static inline void choose_twin_lanes(int rows, int cols, TwinWindow* window) {
  int64_t least = 0;
  for (int lanes = 1; lanes <= kTwinPixels; lanes *= 2) {
    const int lane_cols = kTwinPixels / lanes;
    const int part_rows = (rows + lanes - 1) / lanes, part_cols = (cols + lane_cols - 1) / lane_cols;
    if (lanes > 1 && part_cols > kTwinVectors) break;
    const int64_t cost = static_cast<int64_t>(part_rows) * (part_cols + 3 * twin_strips(part_cols));
    if (least != 0 && cost >= least) continue;
    least = cost;
    window->lane_rows = lanes;
    window->lane_cols = lane_cols;
    window->rows = part_rows;
    window->cols = part_cols;
  }
}

[[gnu::always_inline]] static inline TwinWindow twin_window(const ConvInt8Args& args) {
  TwinWindow window;
  const ptrdiff_t pixel = args.x_col_stride, row = args.x_row_stride;
  if (args.taps == 1 || pixel <= 0 || pixel % 4 != 0 || row <= 0 || row % pixel != 0) return window;
  for (int t = 0; t < args.taps; ++t)
    window.origin = t == 0 || args.tap_offset[t] < window.origin ? args.tap_offset[t] : window.origin;
  for (int t = 0; t < args.taps; ++t) {
    const int32_t first = args.tap_offset[t] - window.origin, last = first + (args.k - 1) / 4 * 4;
    if (first % 4 != 0 || first / row != last / row) return window;
    // A tap is part of a pixel, or whole pixels. Where it is neither, outputs step over several pixels.
    if (first / pixel != last / pixel && (first % pixel != 0 || args.k % pixel != 0)) return window;
    const int rows = static_cast<int>(last / row), cols = static_cast<int>(last % row / pixel);
    const int blocks = static_cast<int>((first / pixel == last / pixel ? last % pixel : pixel - 4) / 4 + 1);
    window.reach_rows = rows > window.reach_rows ? rows : window.reach_rows;
    window.reach_cols = cols > window.reach_cols ? cols : window.reach_cols;
    window.blocks = blocks > window.blocks ? blocks : window.blocks;
  }
  // It must be worth it, as for taps in a row and one below the other. That may not depend on rows and
  // columns: a smaller call finds the scratch of a larger one.
  const int64_t ring = static_cast<int64_t>(window.ring_rows()) * (kTwinVectors + window.reach_cols);
  window.shared =
      2 * ring * window.blocks <= static_cast<int64_t>(args.taps) * ((args.k + 3) / 4) * kTwinVectors;
  if (window.shared) choose_twin_lanes(args.rows, args.cols, &window);
  return window;
}

// Most vectors of transposed inputs, [blocks][ring rows][ring columns] of a window, else
// [taps][blocks][strip], for calls of no more rows and columns, whatever lanes they choose.
static inline size_t twin_input_vectors(const ConvInt8Args& args, const TwinWindow& window) {
  if (!window.shared)
    return static_cast<size_t>(args.taps) * static_cast<size_t>((args.k + 3) / 4) * kTwinVectors;
  const int narrowest = (args.cols + kTwinPixels - 1) / kTwinPixels;
  const int cols = narrowest > kTwinVectors ? narrowest : kTwinVectors;
  return static_cast<size_t>(window.blocks) * static_cast<size_t>(window.ring_rows()) *
         static_cast<size_t>(cols + window.reach_cols);
}

// uint32 entries of the table of places, whole cache lines.
static inline size_t twin_place_entries(const ConvInt8Args& args) {
  return (static_cast<size_t>(args.taps) * static_cast<size_t>((args.k + 3) / 4) + 15) / 16 * 16;
}

// place[block] = where the inputs of a block of the window start for outputs of `row`, in bytes.
[[gnu::always_inline]] static inline void place_twin_blocks(const ConvInt8Args& args,
                                                            const TwinWindow& window, int row,
                                                            uint32_t* place) {
  const int blocks = (args.k + 3) / 4, pixel_blocks = static_cast<int>(args.x_col_stride / 4);
  const int ring = window.ring_rows(), row_vectors = window.ring_cols();
  for (int t = 0; t < args.taps; ++t) {
    uint32_t* of_tap = place + t * blocks;
    // Divisions for each tap: for each of 1152 blocks they took a tenth of a layer of 7x7 pixels.
    const int32_t tap = args.tap_offset[t] - window.origin;
    const int tap_row = static_cast<int>(tap / args.x_row_stride);
    const int in_row = static_cast<int>(tap % args.x_row_stride) / 4;
    int in_pixel = in_row % pixel_blocks;
    int vector = (row + tap_row) % ring * row_vectors + in_row / pixel_blocks;
    for (int b = 0; b < blocks; ++b) {
      of_tap[b] = static_cast<uint32_t>(in_pixel * ring * row_vectors + vector) * (kTwinPixels * 4);
      if (++in_pixel == pixel_blocks) {
        in_pixel = 0;
        ++vector;
      }
    }
  }
}

}  // namespace conv_int8
}  // namespace pyruntime
