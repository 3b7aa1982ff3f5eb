// What a tensor looks like in memory, without the memory: dtype, logical shape, strides, physical halo.
#pragma once

#include "base/dtype.h"
#include "base/shape.h"

namespace pyruntime {

// Cells round the image of a channels-last tensor, in pixels.
struct Halo {
  int64_t top = 0, left = 0, bottom = 0, right = 0;
  bool any() const { return top || left || bottom || right; }
  void grow(const Halo& o) {
    top = o.top > top ? o.top : top;
    left = o.left > left ? o.left : left;
    bottom = o.bottom > bottom ? o.bottom : bottom;
    right = o.right > right ? o.right : right;
  }
};

struct Tensor {
  DType dtype = DType::f32;
  Shape shape;
  Strides strides;  // elements
  Halo halo;        // channels-last only

  int64_t count() const { return element_count(shape); }
  size_t item() const { return dtype_size(dtype); }
};

// True if the elements stand in C order without gaps (dimensions of size 1 do not matter).
inline bool is_contiguous(const Tensor& t) {
  int64_t expected = 1;
  for (size_t i = t.shape.size(); i-- > 0;) {
    if (t.shape[i] == 1) continue;
    if (t.strides[i] != expected) return false;
    expected *= t.shape[i];
  }
  return true;
}

}  // namespace pyruntime
