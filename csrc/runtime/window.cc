#include "runtime/window.h"

#include <algorithm>

namespace pyruntime {
namespace {

constexpr int64_t kLargest = 1 << 20;  // kernel sizes, strides, dilations and pads beyond this are mistakes

std::vector<int64_t> read_list(const NodeInfo& info, const char* name, size_t count, int64_t fallback,
                               int64_t least) {
  std::vector<int64_t> v = info.get_ints(name, std::vector<int64_t>(count, fallback));
  if (v.size() != count)
    info.fail(std::string("has attribute '") + name + "' with " + std::to_string(v.size()) +
              " entries: expected " + std::to_string(count));
  for (int64_t i : v) {
    if (i < least || i > kLargest)
      info.fail(std::string("has attribute '") + name + "' with entry " + std::to_string(i) + ": expected " +
                std::to_string(least) + ".." + std::to_string(kLargest));
  }
  return v;
}

int64_t output_size(const NodeInfo& info, int64_t in, int64_t before, int64_t after, int64_t extent,
                    int64_t stride, bool ceil_mode) {
  if (in == 0) return 0;
  const int64_t room = in + before + after - extent;
  if (room < 0) {
    info.fail("has a window of " + std::to_string(extent) + " cells on an input of " + std::to_string(in) +
              " cells with pads " + std::to_string(before) + " and " + std::to_string(after));
  }
  int64_t out = (ceil_mode ? room + stride - 1 : room) / stride + 1;
  // A window that starts beyond the input and its leading pad does not count.
  if (ceil_mode && (out - 1) * stride >= in + before) --out;
  return out;
}

int64_t beyond(int64_t out, int64_t stride, int64_t extent, int64_t before, int64_t in) {
  return std::max<int64_t>(0, (out - 1) * stride + extent - before - in);
}

}  // namespace

Window read_window(const NodeInfo& info, const std::vector<int64_t>& kernel) {
  const size_t axes = kernel.size();
  if (axes < 1 || axes > 2)
    info.fail("has a window of " + std::to_string(axes) + " spatial axes: expected 1 or 2");
  for (int64_t k : kernel) {
    if (k < 1 || k > kLargest) info.fail("has a window of size " + std::to_string(k) + ": expected >= 1");
  }
  const std::vector<int64_t> strides = read_list(info, "strides", axes, 1, 1);
  const std::vector<int64_t> dilations = read_list(info, "dilations", axes, 1, 1);
  const std::vector<int64_t> pads = read_list(info, "pads", 2 * axes, 0, 0);
  Window w;
  w.kw = kernel.back();
  w.stride_w = strides.back();
  w.dilation_w = dilations.back();
  w.left = pads[axes - 1];
  w.right = pads[2 * axes - 1];
  if (axes == 2) {
    w.kh = kernel[0];
    w.stride_h = strides[0];
    w.dilation_h = dilations[0];
    w.top = pads[0];
    w.bottom = pads[2];
  }
  return w;
}

Shape window_output(const NodeInfo& info, const Window& w, size_t spatial_axes, const Shape& input,
                    int64_t channels) {
  if (input.size() != spatial_axes + 2)
    info.fail("has an input of shape " + shape_string(input) + ": expected rank " +
              std::to_string(spatial_axes + 2));
  Shape out = {input[0], channels};
  if (spatial_axes == 2)
    out.push_back(output_size(info, input[2], w.top, w.bottom, w.extent_h(), w.stride_h, w.ceil_mode));
  out.push_back(output_size(info, input.back(), w.left, w.right, w.extent_w(), w.stride_w, w.ceil_mode));
  return out;
}

Halo window_halo(const Window& w, const Shape& input, const Shape& output) {
  Halo halo;
  halo.left = w.left;
  halo.right = beyond(output.back(), w.stride_w, w.extent_w(), w.left, input.back());
  if (input.size() == 4) {
    halo.top = w.top;
    halo.bottom = beyond(output[2], w.stride_h, w.extent_h(), w.top, input[2]);
  }
  return halo;
}

ImageView image_view(const Tensor& t) {
  const size_t last = t.shape.size() - 1;
  ImageView v{t.shape[0], t.shape[1], 1, t.shape[last], t.strides[0], t.strides[1], 0, t.strides[last]};
  if (last == 3) {
    v.rows = t.shape[2];
    v.row_pitch = t.strides[2];
  } else {
    v.row_pitch = v.cols * v.col_pitch;
  }
  return v;
}

}  // namespace pyruntime
