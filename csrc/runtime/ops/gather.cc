// gather: slices of the data picked by integer indices along one axis (embedding look-up).
#include <algorithm>
#include <cstring>

#include "runtime/axes.h"
#include "runtime/kernel_choice.h"
#include "runtime/ops/makers.h"

namespace pyruntime {
namespace {

class Gather : public Operator {
 public:
  explicit Gather(const NodeInfo& info) : Operator(info), axis_(info.get_int("axis")) {
    info.expect_inputs(2, 2);
    info.expect_dtype(info.input(1), {DType::s64, DType::s32});
    info.expect_dtype(info.output(), {info.input(0).dtype});
  }

  Shape infer(const std::vector<Shape>& inputs) const override {
    const size_t axis = resolve_axis(info_, axis_, inputs[0].size());
    Shape out(inputs[0].begin(), inputs[0].begin() + static_cast<ptrdiff_t>(axis));
    out.insert(out.end(), inputs[1].begin(), inputs[1].end());
    out.insert(out.end(), inputs[0].begin() + static_cast<ptrdiff_t>(axis) + 1, inputs[0].end());
    return out;
  }

  bool keeps_samples(const std::vector<Shape>& inputs, const std::vector<bool>& batched) const override {
    const bool first = resolve_axis(info_, axis_, inputs[0].size()) == 0;
    return batched[0] ? !batched[1] && !first : batched[1] && first;
  }

  LayoutTraits traits() const override {
    LayoutTraits t;
    t.input = t.output = Form::plain;
    return t;
  }

  Step prepare(const PlanContext& context) const override {
    return context.inputs[1].t.dtype == DType::s64 ? copy_slices<int64_t>(context)
                                                   : copy_slices<int32_t>(context);
  }

 private:
  template <typename Index>
  Step copy_slices(const PlanContext& context) const {
    const Operand x = context.inputs[0], indices = context.inputs[1], y = context.output;
    const size_t axis = resolve_axis(info_, axis_, x.t.shape.size());
    const int64_t size = x.t.shape[axis], count = indices.t.count();
    int64_t outer = 1;
    size_t bytes = y.t.item();
    for (size_t d = 0; d < x.t.shape.size(); ++d) {
      if (d < axis) outer *= x.t.shape[d];
      if (d > axis) bytes *= static_cast<size_t>(x.t.shape[d]);
    }
    const int64_t slices = outer * count;
    Step step;
    step.tasks = static_cast<int>(std::min<int64_t>(
        slices, tasks_for_cycles(static_cast<double>(slices) * (20.0 + static_cast<double>(bytes) / 8.0),
                                 context.num_threads)));
    step.kernel = "runtime:gather";
    step.precision = y.t.dtype == DType::f32 ? "float32" : "int8";
    const auto failure = std::make_shared<const std::string>(
        "node '" + info_.node().name + "' (gather): an index is outside the " + std::to_string(size) +
        " entries of axis " + std::to_string(axis));
    const int tasks = step.tasks;
    step.run = [=](const RunContext& run, int task, int) {
      const Index* index = run.at<const Index>(indices);
      for (int64_t i = slices * task / tasks; i < slices * (task + 1) / tasks; ++i) {
        int64_t entry = index[i % count];
        entry += entry < 0 ? size : 0;
        char* to = run.at<char>(y) + i * static_cast<int64_t>(bytes);
        if (entry < 0 || entry >= size) {
          run.fail(failure.get());
          std::memset(to, 0, bytes);
          continue;
        }
        const int64_t from = (i / count * size + entry) * static_cast<int64_t>(bytes);
        std::memcpy(to, run.at<const char>(x) + from, bytes);
      }
    };
    return step;
  }

  int64_t axis_;
};

}  // namespace

std::unique_ptr<Operator> make_gather(const NodeInfo& info) { return std::make_unique<Gather>(info); }

}  // namespace pyruntime
