// softmax along one axis, reduce_mean over several.
#include <algorithm>

#include "kernels/elementwise/elementwise.h"
#include "runtime/axes.h"
#include "runtime/kernel_choice.h"
#include "runtime/loop_nest.h"
#include "runtime/ops/makers.h"

namespace pyruntime {
namespace {

class Softmax : public Operator {
 public:
  explicit Softmax(const NodeInfo& info) : Operator(info), axis_(info.get_int("axis")) {
    info.expect_inputs(1, 1);
    info.expect_dtype(info.input(0), {DType::f32});
    info.expect_dtype(info.output(), {DType::f32});
  }

  Shape infer(const std::vector<Shape>& inputs) const override {
    resolve_axis(info_, axis_, inputs[0].size());
    return inputs[0];
  }
  bool keeps_samples(const std::vector<Shape>& inputs, const std::vector<bool>& batched) const override {
    return batched[0] && resolve_axis(info_, axis_, inputs[0].size()) != 0;
  }
  LayoutTraits traits() const override {
    LayoutTraits t;
    t.propagates = true;
    return t;
  }

  Step prepare(const PlanContext& context) const override {
    int count = 0;
    const ElementwiseKernels* rows = elementwise_kernels(&count);
    const ElementwiseKernels& kernel = strongest_row(rows, count, context.isa, "elementwise");
    const Operand x = context.inputs[0], y = context.output;
    const size_t axis = resolve_axis(info_, axis_, y.t.shape.size());
    const int64_t n = y.t.shape[axis], x_stride = x.t.strides[axis], y_stride = y.t.strides[axis];
    // The other axes, innermost included, as a nest of single elements.
    Shape others = y.t.shape;
    others[axis] = 1;
    const LoopNest nest = make_nest(others, {y.t.strides, x.t.strides});
    const NestSplit split =
        split_nest(nest, tasks_for_cycles(4.0 * static_cast<double>(y.t.count()), context.num_threads));
    const int64_t y_inner = nest.inner_stride(0), x_inner = nest.inner_stride(1);
    Step step;
    step.tasks = split.tasks;
    step.scratch_bytes = static_cast<size_t>(n) * sizeof(float);
    step.kernel = kernel.name;
    step.isa = isa_name(kernel.isa);
    step.precision = "float32";
    step.run = [=, &kernel](const RunContext& run, int task, int thread) {
      const float* source = run.at<const float>(x);
      float* target = run.at<float>(y);
      float* scratch = reinterpret_cast<float*>(run.scratch_of(thread));
      for_each_run(nest, split, task, [&](const std::array<int64_t, kMaxOperands>& at, int64_t lines) {
        for (int64_t i = 0; i < lines; ++i) {
          const float* from = source + at[1] + i * x_inner;
          float* to = target + at[0] + i * y_inner;
          if (n == 1 || (x_stride == 1 && y_stride == 1)) {
            kernel.softmax_f32(static_cast<size_t>(n), from, to);
            continue;
          }
          for (int64_t j = 0; j < n; ++j) scratch[j] = from[j * x_stride];
          kernel.softmax_f32(static_cast<size_t>(n), scratch, scratch);
          for (int64_t j = 0; j < n; ++j) to[j * y_stride] = scratch[j];
        }
      });
    };
    return step;
  }

 private:
  int64_t axis_;
};

class ReduceMean : public Operator {
 public:
  explicit ReduceMean(const NodeInfo& info)
      : Operator(info), axes_(info.get_ints("axes")), keep_(info.get_int("keepdims", 1) != 0) {
    info.expect_inputs(1, 1);
    info.expect_dtype(info.input(0), {DType::f32});
    info.expect_dtype(info.output(), {DType::f32});
  }

  Shape infer(const std::vector<Shape>& inputs) const override {
    const std::vector<bool> reduced = resolve_axes(info_, axes_, inputs[0].size());
    Shape out;
    for (size_t d = 0; d < inputs[0].size(); ++d) {
      if (!reduced[d]) {
        out.push_back(inputs[0][d]);
      } else if (keep_) {
        out.push_back(1);
      }
    }
    return out;
  }
  bool keeps_samples(const std::vector<Shape>& inputs, const std::vector<bool>& batched) const override {
    return batched[0] && !resolve_axes(info_, axes_, inputs[0].size())[0];
  }
  LayoutTraits traits() const override {
    LayoutTraits t;
    t.propagates = keep_;
    return t;
  }

  Step prepare(const PlanContext& context) const override {
    int count = 0;
    const ElementwiseKernels* rows = elementwise_kernels(&count);
    const ElementwiseKernels& kernel = strongest_row(rows, count, context.isa, "elementwise");
    const Operand x = context.inputs[0], y = context.output;
    const std::vector<bool> reduced = resolve_axes(info_, axes_, x.t.shape.size());
    Shape kept_shape, cell_shape;
    Strides kept_x, kept_y, cell_x;
    size_t out_axis = 0;
    for (size_t d = 0; d < x.t.shape.size(); ++d) {
      if (reduced[d]) {
        cell_shape.push_back(x.t.shape[d]);
        cell_x.push_back(x.t.strides[d]);
        out_axis += keep_ ? 1 : 0;
      } else {
        kept_shape.push_back(x.t.shape[d]);
        kept_x.push_back(x.t.strides[d]);
        kept_y.push_back(y.t.strides[out_axis++]);
      }
    }
    const int64_t cells = element_count(cell_shape);
    const std::vector<int64_t> offsets = cell_offsets(cell_shape, cell_x, cells);
    const LoopNest nest = make_nest(kept_shape, {kept_y, kept_x});
    const NestSplit split = split_nest(
        nest,
        tasks_for_cycles(static_cast<double>(cells) * static_cast<double>(y.t.count()), context.num_threads));
    const int64_t x_inner = nest.inner_stride(1);
    Step step;
    step.tasks = split.tasks;
    step.kernel = kernel.name;
    step.isa = isa_name(kernel.isa);
    step.precision = "float32";
    step.run = [=, &kernel](const RunContext& run, int task, int) {
      for_each_run(nest, split, task, [&](const std::array<int64_t, kMaxOperands>& at, int64_t n) {
        float* to = run.at<float>(y) + at[0];
        const float* from = run.at<const float>(x) + at[1];
        kernel.mean_f32(static_cast<size_t>(n), from, x_inner, offsets.data(), offsets.size(), to);
      });
    };
    return step;
  }

 private:
  // Offsets of the cells of one mean, in index order.
  static std::vector<int64_t> cell_offsets(const Shape& shape, const Strides& strides, int64_t cells) {
    std::vector<int64_t> offsets(static_cast<size_t>(cells));
    for (int64_t i = 0; i < cells; ++i) {
      int64_t rest = i, offset = 0;
      for (size_t d = shape.size(); d-- > 0;) {
        offset += rest % shape[d] * strides[d];
        rest /= shape[d];
      }
      offsets[i] = offset;
    }
    return offsets;
  }

  std::vector<int64_t> axes_;
  bool keep_;
};

}  // namespace

std::unique_ptr<Operator> make_softmax(const NodeInfo& info) { return std::make_unique<Softmax>(info); }
std::unique_ptr<Operator> make_reduce_mean(const NodeInfo& info) {
  return std::make_unique<ReduceMean>(info);
}

}  // namespace pyruntime
