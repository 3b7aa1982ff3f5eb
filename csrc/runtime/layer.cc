#include "runtime/layer.h"

#include <limits>

namespace pyruntime {

bool taps_fold(const LayerShape& shape, const LayerGrid& grid, int64_t item) {
  return shape.kw > 1 && shape.groups == 1 && grid.tap_col == shape.k * item;
}

std::vector<int32_t> tap_offsets(const LayerShape& shape, const LayerGrid& grid) {
  std::vector<int32_t> offsets;
  for (int64_t i = 0; i < shape.kh; ++i) {
    for (int64_t j = 0; j < shape.kw; ++j) {
      const int64_t offset = grid.tap_origin + i * grid.tap_row + j * grid.tap_col;
      if (offset < std::numeric_limits<int32_t>::min() || offset > std::numeric_limits<int32_t>::max())
        throw Error("a tap of the kernel lies more than 2 GB away from its pixel");
      offsets.push_back(static_cast<int32_t>(offset));
    }
  }
  return offsets;
}

}  // namespace pyruntime
