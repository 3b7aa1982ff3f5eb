// layer_norm over the last axes, a few rows at a time: the sum that is normalized, where nobody else reads
// it, the result, and its quantized form or copy are made while the rows are in cache.
#include "kernels/layer_norm/layer_norm.h"

#include <cmath>

#include "kernels/elementwise/elementwise.h"
#include "kernels/quantize/quantize.h"
#include "runtime/axes.h"
#include "runtime/kernel_choice.h"
#include "runtime/ops/makers.h"

namespace pyruntime {
namespace {

constexpr int64_t kRows = 4;  // at a time

// What is done with the rows.
struct Rows {
  decltype(ElementwiseKernels::binary_f32) add;
  decltype(LayerNormKernel::run) normalize;
  decltype(QuantizeKernels::quantize) quantize;
  int64_t n;
  std::shared_ptr<const std::vector<float>> gamma, beta;
  float epsilon;
  SumBounds bounds{};           // of a + b
  const Value* grid = nullptr;  // of the bytes

  // b and bytes may be null.
  void run(int64_t rows, const float* a, const float* b, float* y, uint8_t* bytes, float* scratch) const {
    const size_t count = static_cast<size_t>(rows * n);
    if (b != nullptr) add(BinaryF32::add, count, a, b, 1, bounds.lo, bounds.hi, scratch);
    normalize(static_cast<size_t>(rows), static_cast<size_t>(n), b != nullptr ? scratch : a, gamma->data(),
              beta->data(), epsilon, y);
    if (bytes != nullptr) quantize(count, y, grid->scale, grid->zero_point, 0, bytes);
  }
};

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

  bool keeps_samples(const std::vector<Shape>& inputs, const std::vector<bool>& batched) const override {
    return batched[0] && resolve_axis(info_, axis_, inputs[0].size()) != 0;
  }

  LayoutTraits traits() const override {
    LayoutTraits t;
    t.input = t.output = Form::plain;
    t.data_inputs = 1u;
    return t;
  }

  bool normalizes() const override { return true; }

  Step prepare(const PlanContext& context) const override {
    int count = 0;
    const LayerNormKernel* rows = layer_norm_kernels(&count);
    const LayerNormKernel& kernel = strongest_row(rows, count, context.isa, "layer_norm");
    const QuantizeKernels* quantize_rows = quantize_kernels(&count);
    const ElementwiseKernels* sum_rows = elementwise_kernels(&count);
    const Operand y = context.output;
    Rows r;
    r.normalize = kernel.run;
    r.quantize = strongest_row(quantize_rows, count, context.isa, "quantize").quantize;
    r.add = strongest_row(sum_rows, count, context.isa, "elementwise").binary_f32;
    r.n = static_cast<int64_t>(scale_->size());
    r.gamma = scale_;
    r.beta = bias_;
    r.epsilon = epsilon_;
    if (context.sum != nullptr) r.bounds = *context.sum;
    const bool sums = context.sum != nullptr, is_u8 = y.t.dtype == DType::u8;
    const Operand a = sums ? context.addends[0] : context.inputs[0],
                  b = sums ? context.addends[1] : Operand();
    const Operand bytes = is_u8 ? y : context.quantized;
    if (bytes.present()) r.grid = is_u8 ? &info_.output() : context.quantized_value;
    const int64_t lines = y.t.count() / r.n;
    const double cycles =
        static_cast<double>(y.t.count()) * (2.0 + (sums ? 0.5 : 0.0) + (bytes.present() ? 1.0 : 0.0));
    Step step;
    step.tasks = static_cast<int>(std::min<int64_t>(lines, tasks_for_cycles(cycles, context.num_threads)));
    step.scratch_bytes = static_cast<size_t>(kRows * r.n) * sizeof(float);
    step.kernel = kernel.name;
    step.isa = isa_name(kernel.isa);
    step.precision = "float32";
    const int tasks = step.tasks;
    step.run = [=](const RunContext& run, int task, int thread) {
      float* scratch = reinterpret_cast<float*>(run.scratch_of(thread));
      const int64_t end = lines * (task + 1) / tasks;
      for (int64_t i = lines * task / tasks; i < end; i += kRows) {
        r.run(std::min(kRows, end - i), run.at<const float>(a) + i * r.n,
              sums ? run.at<const float>(b) + i * r.n : nullptr, is_u8 ? scratch : run.at<float>(y) + i * r.n,
              r.grid == nullptr ? nullptr : run.at<uint8_t>(bytes) + i * r.n, scratch);
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
