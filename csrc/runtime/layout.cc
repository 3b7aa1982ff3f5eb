#include "runtime/layout.h"

#include <algorithm>

namespace pyruntime {

Layouts assign_layouts(const Program& program, const Operators& operators, const std::vector<Shape>& shapes) {
  const size_t count = program.values.size();
  Layouts layouts{std::vector<Form>(count, Form::plain), std::vector<Halo>(count)};
  std::vector<bool> open(count,
                         false);  // the plan may choose: an image made by an operator that writes either form
  std::vector<LayoutTraits> traits;
  for (size_t i = 0; i < program.nodes.size(); ++i) {
    traits.push_back(operators[i]->traits());
    const int out = program.nodes[i].output;
    open[out] = is_image(shapes[out]) && traits[i].output != Form::plain;
    if (open[out] && traits[i].output == Form::channels_last) layouts.form[out] = Form::channels_last;
  }
  auto ask = [&](int value) {
    if (value < 0 || !open[value] || layouts.form[value] == Form::channels_last) return false;
    layouts.form[value] = Form::channels_last;
    return true;
  };
  for (size_t i = 0; i < program.nodes.size(); ++i) {
    if (traits[i].input != Form::channels_last) continue;
    for (int input : program.nodes[i].inputs) ask(input);
  }
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t i = 0; i < program.nodes.size(); ++i) {
      if (!traits[i].propagates) continue;
      const Node& node = program.nodes[i];
      const size_t rank = shapes[node.output].size();
      bool spatial = layouts.form[node.output] == Form::channels_last;
      auto peer = [&](int v) { return v >= 0 && shapes[v].size() == rank; };
      for (int v : node.inputs) spatial = spatial || (peer(v) && layouts.form[v] == Form::channels_last);
      if (!spatial) continue;
      changed = ask(node.output) || changed;
      for (int v : node.inputs) changed = (peer(v) && ask(v)) || changed;
    }
  }
  for (size_t i = 0; i < program.nodes.size(); ++i) {
    if (traits[i].input != Form::channels_last) continue;
    const Node& node = program.nodes[i];
    std::vector<Shape> inputs;
    for (int v : node.inputs) inputs.push_back(v < 0 ? Shape() : shapes[v]);
    for (size_t k = 0; k < node.inputs.size(); ++k) {
      if (node.inputs[k] >= 0)
        layouts.halo[node.inputs[k]].grow(operators[i]->halo(static_cast<int>(k), inputs));
    }
  }
  return layouts;
}

Tensor plain_tensor(DType dtype, const Shape& shape) {
  return {dtype, shape, contiguous_strides(shape), Halo()};
}

Tensor channels_last_tensor(DType dtype, const Shape& shape, const Halo& halo) {
  Tensor t{dtype, shape, Strides(shape.size(), 1), halo};
  const size_t last = shape.size() - 1;
  Shape padded = shape;
  padded[last] += std::max(halo.left, halo.right);
  if (last == 3) padded[2] += std::max(halo.top, halo.bottom);
  element_count(padded);  // throws if the strides would not fit
  t.strides[1] = 1;
  t.strides[last] = shape[1];
  const int64_t row = padded[last] * shape[1];
  if (last == 3) t.strides[2] = row;
  t.strides[0] = last == 3 ? row * padded[2] : row;
  return t;
}

Extent tensor_extent(const Tensor& t) {
  Extent extent;
  const size_t item = t.item();
  if (t.count() == 0) return extent;
  int64_t last_element = 0;
  for (size_t d = 0; d < t.shape.size(); ++d) last_element += (t.shape[d] - 1) * t.strides[d];
  int64_t lead = 0;
  if (t.halo.any()) {
    const int64_t row = t.shape.size() == 4 ? t.strides[2] : 0, col = t.strides.back();
    lead = t.halo.top * row + t.halo.left * col;
    last_element += t.halo.bottom * row + t.halo.right * col;
  }
  extent.lead = (static_cast<size_t>(lead) * item + 63) / 64 * 64;
  extent.bytes = extent.lead + static_cast<size_t>(last_element + 1) * item;
  return extent;
}

}  // namespace pyruntime
