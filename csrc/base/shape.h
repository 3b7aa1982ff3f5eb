// Shapes in logical (ONNX) order and strides in elements.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"

namespace pyruntime {

using Shape = std::vector<int64_t>;
using Strides = std::vector<int64_t>;

// Largest element count of a tensor: byte offsets of any dtype stay far below 2^63.
constexpr int64_t kMaxElements = int64_t{1} << 40;

inline std::string shape_string(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

// Product of the dimensions. Throws for a negative dimension, or if the nonzero ones multiply beyond
// kMaxElements (so that strides of empty tensors fit too).
inline int64_t element_count(const Shape& shape) {
  int64_t product = 1;
  bool empty = false;
  for (int64_t d : shape) {
    if (d < 0) throw Error("shape " + shape_string(shape) + " has a negative dimension");
    empty = empty || d == 0;
    if (d == 0) continue;
    if (product > kMaxElements / d) throw Error("shape " + shape_string(shape) + " has too many elements");
    product *= d;
  }
  return empty ? 0 : product;
}

inline Strides contiguous_strides(const Shape& shape) {
  Strides strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * (shape[i] > 0 ? shape[i] : 1);
  return strides;
}

}  // namespace pyruntime
