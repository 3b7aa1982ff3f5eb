// conv: integer and float convolutions of rank 3 and 4, dense, grouped and depthwise.
#include "runtime/layer.h"
#include "runtime/ops/makers.h"
#include "runtime/window.h"

namespace pyruntime {
namespace {

struct ConvShape {
  LayerShape layer;
  Window window;
  size_t spatial_axes;
  int64_t channels;
};

ConvShape read_shape(const NodeInfo& info) {
  const Value& w = info.constant(1);
  if (w.shape.size() < 3 || w.shape.size() > 4)
    info.fail("has weights '" + w.name + "' of shape " + shape_string(w.shape) + ": expected rank 3 or 4");
  ConvShape s;
  s.spatial_axes = w.shape.size() - 2;
  s.window = read_window(info, std::vector<int64_t>(w.shape.begin() + 2, w.shape.end()));
  s.layer.n = w.shape[0];
  s.layer.k = w.shape[1];
  s.layer.kh = s.window.kh;
  s.layer.kw = s.window.kw;
  s.layer.groups = info.get_int("groups", 1);
  const int64_t groups = s.layer.groups;
  if (s.layer.n < 1 || s.layer.k < 1 || element_count(w.shape) > (int64_t{1} << 31))
    info.fail("has weights '" + w.name + "' of shape " + shape_string(w.shape) +
              ": expected 1 to 2^31 elements");
  if (groups < 1 || s.layer.n % groups != 0)
    info.fail("has groups " + std::to_string(groups) + ", which does not divide " +
              std::to_string(s.layer.n) + " output channels");
  s.channels = s.layer.k * groups;
  return s;
}

LayerGrid make_grid(const ConvShape& s, const Operand& x, const Operand& y, const Operand& residual) {
  auto strides = [](const Operand& o) {
    const ImageView v = image_view(o.t);
    const ptrdiff_t item = static_cast<ptrdiff_t>(o.t.item());
    return GridStrides{v.image_pitch * item, v.row_pitch * item, v.col_pitch * item};
  };
  const ImageView out = image_view(y.t);
  LayerGrid g;
  g.images = out.images;
  g.rows = out.rows;
  g.cols = out.cols;
  g.x = strides(x);
  g.y = strides(y);
  g.has_residual = residual.present();
  if (g.has_residual) g.residual = strides(residual);
  g.tap_row = g.x.row * s.window.dilation_h;
  g.tap_col = g.x.col * s.window.dilation_w;
  g.tap_origin = -s.window.top * g.x.row - s.window.left * g.x.col;
  g.x.row *= s.window.stride_h;
  g.x.col *= s.window.stride_w;
  return g;
}

template <typename Layer>
class Conv : public Operator {
 public:
  Conv(const NodeInfo& info, const ConvShape& shape, int residual)
      : Operator(info), shape_(shape), layer_(info, shape.layer), residual_(residual) {}

  Shape infer(const std::vector<Shape>& inputs) const override {
    const Shape out = window_output(info_, shape_.window, shape_.spatial_axes, inputs[0], shape_.layer.n);
    if (inputs[0][1] != shape_.channels)
      info_.fail("has an input of shape " + shape_string(inputs[0]) + ": expected " +
                 std::to_string(shape_.channels) + " channels");
    if (info_.has_input(residual_) && inputs[residual_] != out)
      info_.fail("has a residual of shape " + shape_string(inputs[residual_]) + ": expected " +
                 shape_string(out));
    return out;
  }

  LayoutTraits traits() const override {
    LayoutTraits t;
    t.input = t.output = Form::channels_last;
    t.data_inputs = 1u | 1u << residual_;
    if (info_.input(0).dtype == DType::u8) t.slack_inputs = t.data_inputs;
    return t;
  }

  Halo halo(int input, const std::vector<Shape>& inputs) const override {
    return input == 0 ? window_halo(shape_.window, inputs[0], infer(inputs)) : Halo();
  }

  bool keeps_samples(const std::vector<Shape>& inputs, const std::vector<bool>& batched) const override {
    return inputs[0].size() > 1 && batched[0] && (!info_.has_input(residual_) || batched[residual_]);
  }

  bool applies_table() const override {
    return info_.input(0).dtype == DType::u8 && info_.output().dtype == DType::u8;
  }

  Step prepare(const PlanContext& context) const override {
    for (int64_t d : context.output.t.shape) {
      if (d >= int64_t{1} << 31) info_.fail("has an output of shape " + shape_string(context.output.t.shape));
    }
    const Operand residual = info_.has_input(residual_) ? context.inputs[residual_] : Operand();
    return layer_.prepare(context, make_grid(shape_, context.inputs[0], context.output, residual));
  }

 private:
  ConvShape shape_;
  Layer layer_;
  int residual_;
};

}  // namespace

std::unique_ptr<Operator> make_conv(const NodeInfo& info) {
  info.expect_dtype(info.input(0), {DType::u8, DType::f32});
  const ConvShape shape = read_shape(info);
  if (info.input(0).dtype == DType::u8) {
    info.expect_inputs(4, 5);
    return std::make_unique<Conv<Int8Layer>>(info, shape, 4);
  }
  info.expect_inputs(2, 4);
  return std::make_unique<Conv<F32Layer>>(info, shape, 3);
}

}  // namespace pyruntime
