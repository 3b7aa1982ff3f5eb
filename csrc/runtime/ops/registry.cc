#include "runtime/ops/makers.h"

namespace pyruntime {
namespace {

struct Row {
  const char* name;
  std::unique_ptr<Operator> (*make)(const NodeInfo&);
};

constexpr Row kRows[] = {
#define PYRUNTIME_OP(name, make) {name, make},
#include "runtime/ops/ops.inc"
#undef PYRUNTIME_OP
};

}  // namespace

std::unique_ptr<Operator> make_operator(const NodeInfo& info) {
  for (const Row& row : kRows) {
    if (info.node().op == row.name) return row.make(info);
  }
  info.fail("is of an unknown operator");
}

}  // namespace pyruntime
