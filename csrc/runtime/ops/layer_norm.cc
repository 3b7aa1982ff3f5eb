// layer_norm over the last axes; a u8 output is the float result quantized while it is in cache.
#include "kernels/layer_norm/layer_norm.h"

#include <cmath>

#include "kernels/quantize/quantize.h"
#include "runtime/axes.h"
#include "runtime/kernel_choice.h"
#include "runtime/ops/makers.h"

namespace pyruntime {
namespace {

class LayerNorm : public Operator {
 public:
  explicit LayerNorm(const NodeInfo& info)
      : Operator(info), axis_(info.get_int("axis")), epsilon_(static_cast<float>(info.get_float("epsilon"))) {
    info.expect_inputs(2, 3);
    info.expect_dtype(info.input(0), {DType::f32});
    info.expect_dtype(info.output(), {DType::f32, DType::u8});
    if (info.output().dtype == DType::u8 && !info.output().quantized)
      info.fail("needs a scale and a zero_point on '" + info.output().name + "'");
    if (!std::isfinite(epsilon_) || epsilon_ < 0.0f)
      info.fail("has an epsilon that is negative or not finite");
    scale_ = read(1);
    bias_ = info.has_input(2) ? read(2) : std::make_shared<std::vector<float>>(scale_->size(), 0.0f);
    if (bias_->size() != scale_->size()) info.fail("has a scale and a bias of different sizes");
  }

  Shape infer(const std::vector<Shape>& inputs) const override {
    const size_t axis = resolve_axis(info_, axis_, inputs[0].size());
    const int64_t n = element_count(Shape(inputs[0].begin() + static_cast<ptrdiff_t>(axis), inputs[0].end()));
    if (n != static_cast<int64_t>(scale_->size()))
      info_.fail("has an input of shape " + shape_string(inputs[0]) + " and a scale of " +
                 std::to_string(scale_->size()) + " values: they do not fit along axis " +
                 std::to_string(axis_));
    return inputs[0];
  }

  LayoutTraits traits() const override {
    LayoutTraits t;
    t.input = t.output = Form::plain;
    t.data_inputs = 1u;
    return t;
  }

  Step prepare(const PlanContext& context) const override {
    int count = 0;
    const LayerNormKernel* rows = layer_norm_kernels(&count);
    const LayerNormKernel& kernel = strongest_row(rows, count, context.isa, "layer_norm");
    const QuantizeKernels* quantize_rows = quantize_kernels(&count);
    const QuantizeKernels& quantize = strongest_row(quantize_rows, count, context.isa, "quantize");
    const Operand x = context.inputs[0], y = context.output;
    const int64_t n = static_cast<int64_t>(scale_->size()), lines = y.t.count() / n;
    const bool is_u8 = y.t.dtype == DType::u8;
    const float scale = info_.output().scale, epsilon = epsilon_;
    const int32_t zero_point = info_.output().zero_point;
    Step step;
    step.tasks = static_cast<int>(std::min<int64_t>(
        lines, tasks_for_cycles(2.0 * static_cast<double>(y.t.count()), context.num_threads)));
    step.scratch_bytes = is_u8 ? static_cast<size_t>(n) * sizeof(float) : 0;
    step.kernel = kernel.name;
    step.isa = isa_name(kernel.isa);
    step.precision = "float32";
    const int tasks = step.tasks;
    step.run = [=, gamma = scale_, beta = bias_, &kernel, &quantize](const RunContext& run, int task,
                                                                     int thread) {
      float* scratch = reinterpret_cast<float*>(run.scratch_of(thread));
      for (int64_t i = lines * task / tasks; i < lines * (task + 1) / tasks; ++i) {
        float* result = is_u8 ? scratch : run.at<float>(y) + i * n;
        kernel.run(static_cast<size_t>(n), run.at<const float>(x) + i * n, gamma->data(), beta->data(),
                   epsilon, result);
        if (is_u8)
          quantize.quantize(static_cast<size_t>(n), result, scale, zero_point, 0, run.at<uint8_t>(y) + i * n);
      }
    };
    return step;
  }

 private:
  std::shared_ptr<std::vector<float>> read(int input) const {
    const Value& v = info_.constant(input);
    info_.expect_dtype(v, {DType::f32});
    const float* data = static_cast<const float*>(v.data);
    return std::make_shared<std::vector<float>>(data, data + element_count(v.shape));
  }

  int64_t axis_;
  float epsilon_;
  std::shared_ptr<std::vector<float>> scale_, bias_;
};

}  // namespace

std::unique_ptr<Operator> make_layer_norm(const NodeInfo& info) { return std::make_unique<LayerNorm>(info); }

}  // namespace pyruntime
