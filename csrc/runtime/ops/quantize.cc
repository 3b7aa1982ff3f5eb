// quantize, dequantize, cast: between float and integers.
#include "kernels/quantize/quantize.h"

#include "runtime/ops/makers.h"
#include "runtime/ops/map_step.h"
#include "runtime/window.h"

namespace pyruntime {
namespace {

const QuantizeKernels& kernels_for(Isa isa) {
  int count = 0;
  const QuantizeKernels* rows = quantize_kernels(&count);
  return strongest_row(rows, count, isa, "quantize");
}

// u8 and s8 share the kernels: s8 is u8 with its zero point raised by 128 and its top bit flipped.
uint8_t flip_of(const Value& v) { return v.dtype == DType::s8 ? 0x80 : 0; }
int32_t zero_point_of(const Value& v) { return v.zero_point + (v.dtype == DType::s8 ? 128 : 0); }

void expect_scale(const NodeInfo& info, const Value& v) {
  if (!v.quantized) info.fail("needs a scale and a zero_point on '" + v.name + "'");
}

class ElementMap : public Operator {
 public:
  using Operator::Operator;
  Shape infer(const std::vector<Shape>& inputs) const override { return inputs[0]; }
  bool keeps_samples(const std::vector<Shape>&, const std::vector<bool>& batched) const override {
    return batched[0];
  }
  LayoutTraits traits() const override {
    LayoutTraits t;
    t.propagates = t.elementwise = true;
    return t;
  }
};

class Quantize : public ElementMap {
 public:
  using ElementMap::ElementMap;

  LayoutTraits traits() const override {
    LayoutTraits t = ElementMap::traits();
    t.converts = info_.output().dtype == DType::u8;
    return t;
  }

  bool quantizes() const override { return info_.output().dtype == DType::u8; }

  Step prepare(const PlanContext& context) const override {
    const QuantizeKernels& kernel = kernels_for(context.isa);
    Step step = planes(context.inputs[0], context.output) ? prepare_planes(context, kernel)
                                                          : prepare_runs(context, kernel);
    step.kernel = kernel.name;
    step.isa = isa_name(kernel.isa);
    step.precision = "int8";
    return step;
  }

 private:
  // From planes to channels-last pixels: the layout changes in the same pass.
  static bool planes(const Operand& x, const Operand& y) {
    if (y.t.dtype != DType::u8 || y.t.shape.size() < 3 || y.t.shape.size() > 4 || y.t.shape[1] == 1)
      return false;
    return x.t.strides.back() == 1 && y.t.strides[1] == 1;
  }

  Step prepare_planes(const PlanContext& context, const QuantizeKernels& kernel) const {
    const Operand x = context.inputs[0], y = context.output;
    ImageView in = image_view(x.t), out = image_view(y.t);
    if (in.row_pitch == in.cols && out.row_pitch == out.cols * out.col_pitch) {
      in.cols *= in.rows;  // no halo: an image is one long row
      in.rows = out.rows = 1;
    }
    const int64_t units = out.images * in.rows;
    const double cycles = static_cast<double>(y.t.count()) * 1.0;
    int64_t parts = 1, part = in.cols;
    const int want = tasks_for_cycles(cycles, context.num_threads);
    if (units < want) {
      parts = (want + units - 1) / units;
      part = ((in.cols + parts - 1) / parts + 63) / 64 * 64;
      parts = (in.cols + part - 1) / part;
    }
    Step step;
    step.tasks = static_cast<int>(std::min<int64_t>(want, units * parts));
    const int tasks = step.tasks;
    const float scale = info_.output().scale;
    const int32_t zero_point = info_.output().zero_point;
    step.run = [=, &kernel](const RunContext& run, int task, int) {
      const int64_t all = units * parts;
      for (int64_t unit = all * task / tasks; unit < all * (task + 1) / tasks; ++unit) {
        const int64_t col = unit % parts * part, row = unit / parts % in.rows, image = unit / parts / in.rows;
        const int64_t n = std::min(part, in.cols - col);
        kernel.planes_to_pixels(
            static_cast<size_t>(n), static_cast<int>(in.channels),
            run.at<const float>(x) + image * in.image_pitch + row * in.row_pitch + col, in.channel_pitch,
            scale, zero_point,
            run.at<uint8_t>(y) + image * out.image_pitch + row * out.row_pitch + col * out.col_pitch,
            out.col_pitch);
      }
    };
    return step;
  }

  Step prepare_runs(const PlanContext& context, const QuantizeKernels& kernel) const {
    const float scale = info_.output().scale;
    const int32_t zero_point = zero_point_of(info_.output());
    const uint8_t flip = flip_of(info_.output());
    return map_step<float, uint8_t>(context, context.inputs[0], 1.0,
                                    [=, &kernel](size_t n, const float* x, uint8_t* y) {
                                      kernel.quantize(n, x, scale, zero_point, flip, y);
                                    });
  }
};

class Dequantize : public ElementMap {
 public:
  using ElementMap::ElementMap;

  Step prepare(const PlanContext& context) const override {
    const Value& v = info_.input(0);
    const float scale = v.scale;
    Step step;
    if (v.dtype == DType::s32) {
      const int64_t zero_point = v.zero_point;
      step = map_step<int32_t, float>(context, context.inputs[0], 2.0,
                                      [=](size_t n, const int32_t* x, float* y) {
                                        for (size_t i = 0; i < n; ++i)
                                          y[i] = static_cast<float>(x[i] - zero_point) * scale;
                                      });
      step.kernel = "runtime:dequantize";
    } else {
      const QuantizeKernels& kernel = kernels_for(context.isa);
      const int32_t zero_point = zero_point_of(v);
      const uint8_t flip = flip_of(v);
      step = map_step<uint8_t, float>(context, context.inputs[0], 0.5,
                                      [=, &kernel](size_t n, const uint8_t* x, float* y) {
                                        kernel.dequantize(n, x, scale, zero_point, flip, y);
                                      });
      step.kernel = kernel.name;
      step.isa = isa_name(kernel.isa);
    }
    step.precision = "float32";
    return step;
  }
};

class Cast : public ElementMap {
 public:
  using ElementMap::ElementMap;

  Step prepare(const PlanContext& context) const override {
    Step step;
    switch (context.inputs[0].t.dtype) {
      case DType::u8:
        step = cast_from<uint8_t>(context);
        break;
      case DType::s8:
        step = cast_from<int8_t>(context);
        break;
      case DType::s32:
        step = cast_from<int32_t>(context);
        break;
      case DType::s64:
        step = cast_from<int64_t>(context);
        break;
      default:
        step = cast_from<float>(context);
    }
    step.kernel = "runtime:cast";
    step.precision = "float32";
    return step;
  }

 private:
  template <typename T>
  static Step cast_from(const PlanContext& context) {
    return map_step<T, float>(context, context.inputs[0], 1.0, [](size_t n, const T* x, float* y) {
      for (size_t i = 0; i < n; ++i) y[i] = static_cast<float>(x[i]);
    });
  }
};

}  // namespace

std::unique_ptr<Operator> make_quantize(const NodeInfo& info) {
  info.expect_inputs(1, 1);
  info.expect_dtype(info.input(0), {DType::f32});
  info.expect_dtype(info.output(), {DType::u8, DType::s8});
  expect_scale(info, info.output());
  return std::make_unique<Quantize>(info);
}

std::unique_ptr<Operator> make_dequantize(const NodeInfo& info) {
  info.expect_inputs(1, 1);
  info.expect_dtype(info.input(0), {DType::u8, DType::s8, DType::s32});
  info.expect_dtype(info.output(), {DType::f32});
  expect_scale(info, info.input(0));
  return std::make_unique<Dequantize>(info);
}

std::unique_ptr<Operator> make_cast(const NodeInfo& info) {
  info.expect_inputs(1, 1);
  info.expect_dtype(info.output(), {DType::f32});
  return std::make_unique<Cast>(info);
}

}  // namespace pyruntime
