// dense: fully connected layers, integer and float: a convolution of one tap over the rows of x [..., K].
#include "runtime/layer.h"
#include "runtime/ops/makers.h"

namespace pyruntime {
namespace {

LayerShape read_shape(const NodeInfo& info) {
  const Value& w = info.constant(1);
  if (w.shape.size() != 2 || w.shape[0] < 1 || w.shape[1] < 1)
    info.fail("has weights '" + w.name + "' of shape " + shape_string(w.shape) + ": expected [O, K]");
  LayerShape s;
  s.n = w.shape[0];
  s.k = w.shape[1];
  return s;
}

template <typename Layer>
class Dense : public Operator {
 public:
  Dense(const NodeInfo& info, const LayerShape& shape, int residual)
      : Operator(info), shape_(shape), layer_(info, shape), residual_(residual) {}

  Shape infer(const std::vector<Shape>& inputs) const override {
    if (inputs[0].empty() || inputs[0].back() != shape_.k)
      info_.fail("has an input of shape " + shape_string(inputs[0]) + ": expected " +
                 std::to_string(shape_.k) + " as the last dimension");
    Shape out = inputs[0];
    out.back() = shape_.n;
    if (info_.has_input(residual_) && inputs[residual_] != out)
      info_.fail("has a residual of shape " + shape_string(inputs[residual_]) + ": expected " +
                 shape_string(out));
    return out;
  }

  LayoutTraits traits() const override {
    LayoutTraits t;
    t.input = t.output = Form::plain;
    t.data_inputs = 1u | 1u << residual_;
    if (info_.input(0).dtype == DType::u8) t.slack_inputs = t.data_inputs;
    return t;
  }

  bool keeps_samples(const std::vector<Shape>& inputs, const std::vector<bool>& batched) const override {
    return inputs[0].size() > 1 && batched[0] && (!info_.has_input(residual_) || batched[residual_]);
  }

  bool applies_table() const override {
    return info_.input(0).dtype == DType::u8 && info_.output().dtype == DType::u8;
  }

  Step prepare(const PlanContext& context) const override {
    LayerGrid g;
    g.cols = element_count(context.output.t.shape) / shape_.n;
    if (g.cols >= int64_t{1} << 31) info_.fail("has more than 2^31 rows");
    const ptrdiff_t item = static_cast<ptrdiff_t>(context.output.t.item());
    g.x.col = shape_.k * static_cast<ptrdiff_t>(context.inputs[0].t.item());
    g.y.col = g.residual.col = shape_.n * item;
    g.has_residual = info_.has_input(residual_);
    return layer_.prepare(context, g);
  }

 private:
  LayerShape shape_;
  Layer layer_;
  int residual_;
};

}  // namespace

std::unique_ptr<Operator> make_dense(const NodeInfo& info) {
  info.expect_dtype(info.input(0), {DType::u8, DType::f32});
  const LayerShape shape = read_shape(info);
  if (info.input(0).dtype == DType::u8) {
    info.expect_inputs(4, 5);
    return std::make_unique<Dense<Int8Layer>>(info, shape, 4);
  }
  info.expect_inputs(2, 4);
  return std::make_unique<Dense<F32Layer>>(info, shape, 3);
}

}  // namespace pyruntime
