// where: one of two float tensors by a third. expand: broadcasting to a shape, part of which may be that of
// another value.
#include <algorithm>

#include "runtime/axes.h"
#include "runtime/batch.h"
#include "runtime/kernel_choice.h"
#include "runtime/loop_nest.h"
#include "runtime/ops/makers.h"
#include "runtime/strided_copy.h"

namespace pyruntime {
namespace {

class Where : public Operator {
 public:
  explicit Where(const NodeInfo& info) : Operator(info) {
    info.expect_inputs(3, 3);
    for (int i = 0; i < 3; ++i) info.expect_dtype(info.input(i), {DType::f32});
    info.expect_dtype(info.output(), {DType::f32});
  }

  Shape infer(const std::vector<Shape>& inputs) const override {
    Shape out = inputs[0];
    for (int i = 1; i < 3; ++i) {
      const Shape before = out;
      if (!broadcast_shapes(before, inputs[i], &out))
        info_.fail("has inputs of shapes " + shape_string(before) + " and " + shape_string(inputs[i]) +
                   ", which do not broadcast");
    }
    return out;
  }

  bool keeps_samples(const std::vector<Shape>& inputs, const std::vector<bool>& batched) const override {
    return broadcasts_samples(inputs, batched, infer(inputs).size());
  }

  LayoutTraits traits() const override {
    LayoutTraits t;
    t.input = t.output = Form::plain;
    return t;
  }

  Step prepare(const PlanContext& context) const override {
    const Operand y = context.output, c = context.inputs[0], a = context.inputs[1], b = context.inputs[2];
    std::vector<Strides> strides = {y.t.strides};
    for (const Operand& x : context.inputs)
      strides.push_back(broadcast_strides(x.t.shape, x.t.strides, y.t.shape));
    const LoopNest nest = make_nest(y.t.shape, strides);
    const NestSplit split =
        split_nest(nest, tasks_for_cycles(2.0 * static_cast<double>(y.t.count()), context.num_threads));
    Step step;
    step.tasks = split.tasks;
    step.kernel = "runtime:where";
    step.precision = "float32";
    step.run = [=](const RunContext& run, int task, int) {
      for_each_run(nest, split, task, [&](const std::array<int64_t, kMaxOperands>& at, int64_t n) {
        const float* condition = run.at<const float>(c) + at[1];
        const float* yes = run.at<const float>(a) + at[2];
        const float* no = run.at<const float>(b) + at[3];
        float* out = run.at<float>(y) + at[0];
        const int64_t sc = nest.inner_stride(1), sa = nest.inner_stride(2), sb = nest.inner_stride(3);
        for (int64_t i = 0; i < n; ++i) out[i] = condition[i * sc] != 0.0f ? yes[i * sa] : no[i * sb];
      });
    };
    return step;
  }
};

class Expand : public Operator {
 public:
  explicit Expand(const NodeInfo& info)
      : Operator(info), shape_(info.get_ints("shape")), like_axes_(info.get_ints("like_axes", {})) {
    info.expect_inputs(1, 2);
    info.expect_dtype(info.output(), {info.input(0).dtype});
    for (int64_t size : shape_) {
      if (size < 0) info.fail("has " + std::to_string(size) + " in its shape");
    }
    check_like(info, like_axes_, shape_.size());
  }

  Shape infer(const std::vector<Shape>& inputs) const override {
    Shape target = shape_, out;
    for (size_t d = 0; d < like_axes_.size(); ++d) {
      if (like_axes_[d] >= 0) target[d] = inputs[1][resolve_axis(info_, like_axes_[d], inputs[1].size())];
    }
    if (!broadcast_shapes(inputs[0], target, &out))
      info_.fail("cannot expand " + shape_string(inputs[0]) + " to " + shape_string(target));
    return out;
  }

  bool keeps_samples(const std::vector<Shape>& inputs, const std::vector<bool>& batched) const override {
    return broadcasts_samples({inputs[0]}, {batched[0]}, infer(inputs).size());
  }

  LayoutTraits traits() const override {
    LayoutTraits t;
    t.input = t.output = Form::plain;
    t.data_inputs = 1u;
    return t;
  }

  Step prepare(const PlanContext& context) const override {
    Operand from = context.inputs[0];
    from.t.strides = broadcast_strides(from.t.shape, from.t.strides, context.output.t.shape);
    from.t.shape = context.output.t.shape;
    Step step = make_copy_step(from, context.output, context.num_threads);
    step.kernel = "runtime:expand";
    return step;
  }

 private:
  std::vector<int64_t> shape_, like_axes_;
};

}  // namespace

void check_like(const NodeInfo& info, const std::vector<int64_t>& like_axes, size_t count) {
  if (like_axes.empty() && !info.has_input(1)) return;
  if (like_axes.size() != count || !info.has_input(1))
    info.fail("needs a second input and one entry of like_axes for each of its " + std::to_string(count) +
              " axes, or neither");
  for (int64_t axis : like_axes) {
    if (axis < -1) info.fail("has " + std::to_string(axis) + " in like_axes");
  }
}

std::unique_ptr<Operator> make_where(const NodeInfo& info) { return std::make_unique<Where>(info); }
std::unique_ptr<Operator> make_expand(const NodeInfo& info) { return std::make_unique<Expand>(info); }

}  // namespace pyruntime
