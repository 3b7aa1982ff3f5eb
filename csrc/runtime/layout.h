// Which values are stored channels-last, how wide their halos are, and what such a tensor looks like.
#pragma once

#include "runtime/operator.h"

namespace pyruntime {

using Operators = std::vector<std::unique_ptr<Operator>>;

struct Layouts {
  std::vector<Form> form;  // per value: plain or channels_last
  std::vector<Halo> halo;  // per value, of its channels-last form
};

// A value of rank 3 or 4 is channels-last if a spatial operator makes or reads it, directly or through
// operators that take any layout; its halo covers what all its readers need.
Layouts assign_layouts(const Program& program, const Operators& operators, const std::vector<Shape>& shapes);

// Only images have a channels-last form.
inline bool is_image(const Shape& shape) { return shape.size() == 3 || shape.size() == 4; }

Tensor plain_tensor(DType dtype, const Shape& shape);
// The right halo of a row is the left halo of the next, and likewise between images.
Tensor channels_last_tensor(DType dtype, const Shape& shape, const Halo& halo);
// Bytes before the first element and in all, halo included. The first is a multiple of 64.
struct Extent {
  size_t lead = 0, bytes = 0;
};
Extent tensor_extent(const Tensor& t);

}  // namespace pyruntime
