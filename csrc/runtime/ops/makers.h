// The makers named in ops.inc.
#pragma once

#include <memory>

#include "runtime/operator.h"

namespace pyruntime {

#define PYRUNTIME_OP(name, make) std::unique_ptr<Operator> make(const NodeInfo& info);
#include "runtime/ops/ops.inc"
#undef PYRUNTIME_OP

// Throws unless `like_axes` has `count` entries, -1 or an axis of input 1, or both it and input 1 are absent.
void check_like(const NodeInfo& info, const std::vector<int64_t>& like_axes, size_t count);

}  // namespace pyruntime
