// Work a plan saves: tables applied by the layer that makes their input, sums and quantized copies that a
// normalization makes row by row, and inputs of a concat that are written where the concat would copy them.
#pragma once

#include "runtime/layout.h"

namespace pyruntime {

struct Fusions {
  // Per node: the `lut` node whose table this node applies to its own output, -1 for none.
  std::vector<int> table_node;
  // Per node: for a normalization the `add` whose sum it makes, and the `quantize` of its result; -1 for
  // none.
  std::vector<int> sum_node, quantize_node;
  // Per node: true for such a `lut`, `add` or `quantize`, which then has nothing to do.
  std::vector<bool> absorbed;
  // Per value: the concat node whose output it is a part of, -1 for none, and its first channel there.
  struct Part {
    int concat = -1;
    int64_t channel = 0;
  };
  std::vector<Part> part;
};

Fusions find_fusions(const Program& program, const Operators& operators, const std::vector<Shape>& shapes,
                     const Layouts& layouts);

}  // namespace pyruntime
