// add, sub, mul, div, prelu (two operands), unary and lut (one).
#include "kernels/elementwise/elementwise.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/lut/lut.h"
#include "runtime/batch.h"
#include "runtime/ops/makers.h"
#include "runtime/ops/map_step.h"

namespace pyruntime {
namespace {

const ElementwiseKernels& kernels_for(Isa isa) {
  int count = 0;
  const ElementwiseKernels* rows = elementwise_kernels(&count);
  return strongest_row(rows, count, isa, "elementwise");
}

float whole_bound(const NodeInfo& info, const char* name, double fallback) {
  const double v = info.get_float(name, fallback);
  if (!(v >= 0.0 && v <= 255.0) || v != std::floor(v))
    info.fail(std::string("has attribute '") + name + "' = " + std::to_string(v) +
              ": expected a whole number 0..255");
  return static_cast<float>(v);
}

float finite(const NodeInfo& info, const char* name) {
  const float v = static_cast<float>(info.get_float(name));
  if (!std::isfinite(v)) info.fail(std::string("has attribute '") + name + "' that is not finite");
  return v;
}

class Binary : public Operator {
 public:
  explicit Binary(const NodeInfo& info) : Operator(info), integer_(info.input(0).dtype == DType::u8) {
    const std::string& op = info.node().op;
    info.expect_inputs(2, 2);
    if (op == "add" || op == "mul") {
      info.expect_dtype(info.input(0), {DType::u8, DType::f32});
    } else {
      info.expect_dtype(info.input(0), {DType::f32});
    }
    info.expect_dtype(info.input(1), {info.input(0).dtype});
    info.expect_dtype(info.output(), {info.input(0).dtype});
    is_add_ = op == "add";
    if (integer_ && is_add_) {
      add_ = {finite(info, "a_multiplier"), finite(info, "b_multiplier"), finite(info, "offset"),
              whole_bound(info, "lo", 0), whole_bound(info, "hi", 255)};
    } else if (integer_) {
      mul_ = {zero_point(info, "a_zero_point"), zero_point(info, "b_zero_point"),
              finite(info, "multiplier"),       finite(info, "offset"),
              whole_bound(info, "lo", 0),       whole_bound(info, "hi", 255)};
    } else {
      const double infinity = std::numeric_limits<double>::infinity();
      bounds_ = {static_cast<float>(info.get_float("lo", -infinity)),
                 static_cast<float>(info.get_float("hi", infinity))};
      if (std::isnan(bounds_.lo) || std::isnan(bounds_.hi)) info.fail("has a clamp bound that is NaN");
      float_op_ = op == "add"   ? BinaryF32::add
                  : op == "sub" ? BinaryF32::sub
                  : op == "mul" ? BinaryF32::mul
                  : op == "div" ? BinaryF32::div
                                : BinaryF32::prelu;
    }
  }

  Shape infer(const std::vector<Shape>& inputs) const override {
    Shape out;
    if (!broadcast_shapes(inputs[0], inputs[1], &out))
      info_.fail("has inputs of shapes " + shape_string(inputs[0]) + " and " + shape_string(inputs[1]) +
                 ", which do not broadcast");
    if (info_.node().op == "prelu" && out != inputs[0])
      info_.fail("has a slope of shape " + shape_string(inputs[1]) + ", which does not broadcast to " +
                 shape_string(inputs[0]));
    return out;
  }

  LayoutTraits traits() const override {
    LayoutTraits t;
    t.propagates = t.elementwise = true;
    return t;
  }

  bool keeps_samples(const std::vector<Shape>& inputs, const std::vector<bool>& batched) const override {
    return broadcasts_samples(inputs, batched, infer(inputs).size());
  }

  const SumBounds* sum() const override { return is_add_ && !integer_ ? &bounds_ : nullptr; }

  Step prepare(const PlanContext& context) const override {
    const ElementwiseKernels& kernel = kernels_for(context.isa);
    const Operand& a = context.inputs[0];
    const Operand& b = context.inputs[1];
    Step step;
    if (integer_ && is_add_) {
      const AddU8Params p = add_;
      step = zip_step<uint8_t>(context, a, b, 0.5,
                               [p, &kernel](size_t n, const uint8_t* x, const uint8_t* z, int b_step,
                                            uint8_t* y) { kernel.add_u8(n, x, z, b_step, p, y); });
    } else if (integer_) {
      const MulU8Params p = mul_;
      step = zip_step<uint8_t>(context, a, b, 0.5,
                               [p, &kernel](size_t n, const uint8_t* x, const uint8_t* z, int b_step,
                                            uint8_t* y) { kernel.mul_u8(n, x, z, b_step, p, y); });
    } else {
      const BinaryF32 op = float_op_;
      const float lo = bounds_.lo, hi = bounds_.hi;
      step = zip_step<float>(context, a, b, 0.5,
                             [=, &kernel](size_t n, const float* x, const float* z, int b_step, float* y) {
                               kernel.binary_f32(op, n, x, z, b_step, lo, hi, y);
                             });
    }
    step.kernel = kernel.name;
    step.isa = isa_name(kernel.isa);
    step.precision = integer_ ? "int8" : "float32";
    return step;
  }

 private:
  static int32_t zero_point(const NodeInfo& info, const char* name) {
    const int64_t v = info.get_int(name);
    if (v < 0 || v > 255)
      info.fail(std::string("has attribute '") + name + "' = " + std::to_string(v) + ": expected 0..255");
    return static_cast<int32_t>(v);
  }

  bool integer_, is_add_ = false;
  AddU8Params add_{};
  MulU8Params mul_{};
  BinaryF32 float_op_ = BinaryF32::add;
  SumBounds bounds_{0.0f, 0.0f};
};

struct FunctionRow {
  const char* name;
  UnaryF32 function;
  const char* alpha;  // attribute names, null: none
  const char* beta;
  double cycles;  // estimated, per element
};

constexpr FunctionRow kFunctions[] = {
    {"relu", UnaryF32::relu, nullptr, nullptr, 0.3},
    {"clip", UnaryF32::clip, "lo", "hi", 0.3},
    {"leaky_relu", UnaryF32::leaky_relu, "alpha", nullptr, 0.3},
    {"sigmoid", UnaryF32::sigmoid, nullptr, nullptr, 3},
    {"hard_sigmoid", UnaryF32::hard_sigmoid, "alpha", "beta", 0.3},
    {"hard_swish", UnaryF32::hard_swish, nullptr, nullptr, 0.3},
    {"tanh", UnaryF32::tanh, nullptr, nullptr, 3},
    {"gelu", UnaryF32::gelu, nullptr, nullptr, 4},
    {"gelu_tanh", UnaryF32::gelu_tanh, nullptr, nullptr, 4},
    {"silu", UnaryF32::silu, nullptr, nullptr, 3},
    {"exp", UnaryF32::exp, nullptr, nullptr, 2},
    {"sqrt", UnaryF32::sqrt, nullptr, nullptr, 1},
    {"erf", UnaryF32::erf, nullptr, nullptr, 3},
    {"neg", UnaryF32::neg, nullptr, nullptr, 0.3},
    {"abs", UnaryF32::abs, nullptr, nullptr, 0.3},
    {"reciprocal", UnaryF32::reciprocal, nullptr, nullptr, 1},
};

class Unary : public Operator {
 public:
  explicit Unary(const NodeInfo& info) : Operator(info) {
    info.expect_inputs(1, 1);
    info.expect_dtype(info.input(0), {DType::f32});
    info.expect_dtype(info.output(), {DType::f32});
    const std::string name = info.get_string("function", "");
    for (const FunctionRow& row : kFunctions) {
      if (name == row.name) row_ = &row;
    }
    if (row_ == nullptr) info.fail("has the unknown function '" + name + "'");
    const float infinity = std::numeric_limits<float>::infinity();
    if (row_->function == UnaryF32::clip) {
      alpha_ = static_cast<float>(info.get_float("lo", -infinity));
      beta_ = static_cast<float>(info.get_float("hi", infinity));
    } else {
      if (row_->alpha) alpha_ = static_cast<float>(info.get_float(row_->alpha));
      if (row_->beta) beta_ = static_cast<float>(info.get_float(row_->beta));
    }
  }

  Shape infer(const std::vector<Shape>& inputs) const override { return inputs[0]; }
  bool keeps_samples(const std::vector<Shape>&, const std::vector<bool>& batched) const override {
    return batched[0];
  }
  LayoutTraits traits() const override {
    LayoutTraits t;
    t.propagates = t.elementwise = true;
    return t;
  }
  Step prepare(const PlanContext& context) const override {
    const ElementwiseKernels& kernel = kernels_for(context.isa);
    const UnaryF32 function = row_->function;
    const float alpha = alpha_, beta = beta_;
    Step step = map_step<float, float>(context, context.inputs[0], row_->cycles,
                                       [=, &kernel](size_t n, const float* x, float* y) {
                                         kernel.unary_f32(function, n, x, alpha, beta, y);
                                       });
    step.kernel = kernel.name;
    step.isa = isa_name(kernel.isa);
    step.precision = "float32";
    return step;
  }

 private:
  const FunctionRow* row_ = nullptr;
  float alpha_ = 0.0f, beta_ = 0.0f;
};

class Lut : public Operator {
 public:
  explicit Lut(const NodeInfo& info) : Operator(info) {
    info.expect_inputs(2, 2);
    info.expect_dtype(info.input(0), {DType::u8, DType::s8});
    info.expect_dtype(info.output(), {DType::u8, DType::s8});
    const Value& table = info.constant(1);
    info.expect_dtype(table, {info.output().dtype});
    if (table.shape != Shape{256})
      info.fail("has the table '" + table.name + "' of shape " + shape_string(table.shape) +
                ": expected [256]");
    std::memcpy(table_.data(), table.data, 256);
  }
  Shape infer(const std::vector<Shape>& inputs) const override { return inputs[0]; }
  bool keeps_samples(const std::vector<Shape>&, const std::vector<bool>& batched) const override {
    return batched[0];
  }
  LayoutTraits traits() const override {
    LayoutTraits t;
    t.propagates = t.elementwise = true;
    t.data_inputs = 1u;
    return t;
  }
  const Table* table() const override { return &table_; }
  Step prepare(const PlanContext& context) const override {
    int count = 0;
    const LutKernel* rows = lut_kernels(&count);
    const LutKernel& kernel = strongest_row(rows, count, context.isa, "lut");
    const Table table = table_;
    Step step = map_step<uint8_t, uint8_t>(
        context, context.inputs[0], 0.3,
        [table, &kernel](size_t n, const uint8_t* x, uint8_t* y) { kernel.run(n, x, table.data(), y); });
    step.kernel = kernel.name;
    step.isa = isa_name(kernel.isa);
    step.precision = "int8";
    return step;
  }

 private:
  Table table_{};
};

}  // namespace

std::unique_ptr<Operator> make_binary(const NodeInfo& info) { return std::make_unique<Binary>(info); }
std::unique_ptr<Operator> make_unary(const NodeInfo& info) { return std::make_unique<Unary>(info); }
std::unique_ptr<Operator> make_lut(const NodeInfo& info) { return std::make_unique<Lut>(info); }

}  // namespace pyruntime
