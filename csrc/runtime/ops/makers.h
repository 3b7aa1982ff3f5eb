// The makers named in ops.inc.
#pragma once

#include <memory>

#include "runtime/operator.h"

namespace pyruntime {

#define PYRUNTIME_OP(name, make) std::unique_ptr<Operator> make(const NodeInfo& info);
#include "runtime/ops/ops.inc"
#undef PYRUNTIME_OP

}  // namespace pyruntime
