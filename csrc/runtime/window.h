// Sliding windows of conv and pools over images [N, C, (H,) W]: attributes and output sizes. Rank 3 has one
// row.
#pragma once

#include "base/tensor.h"
#include "runtime/layer.h"

namespace pyruntime {

struct Window {
  int64_t kh = 1, kw = 1, stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
  int64_t top = 0, left = 0, bottom = 0, right = 0;  // pads
  bool ceil_mode = false;

  int64_t extent_h() const { return (kh - 1) * dilation_h + 1; }
  int64_t extent_w() const { return (kw - 1) * dilation_w + 1; }
};

// Reads strides, pads and dilations; `kernel` holds one or two sizes, one per spatial axis.
Window read_window(const NodeInfo& info, const std::vector<int64_t>& kernel);

// Output shape with `channels` channels. Throws Error if the rank differs from the window's or the window
// does not fit.
Shape window_output(const NodeInfo& info, const Window& window, size_t spatial_axes, const Shape& input,
                    int64_t channels);

// Cells outside the input that the windows reach.
Halo window_halo(const Window& window, const Shape& input, const Shape& output);

// Rows, columns and pitches (in elements) of an image tensor of rank 3 or 4.
struct ImageView {
  int64_t images, channels, rows, cols;
  ptrdiff_t image_pitch, channel_pitch, row_pitch, col_pitch;
};
ImageView image_view(const Tensor& t);

}  // namespace pyruntime
