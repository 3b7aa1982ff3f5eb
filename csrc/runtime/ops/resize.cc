// resize: nearest (any dtype) and linear (float, one axis after the other, computed in float64).
#include <algorithm>
#include <array>
#include <cmath>

#include "runtime/kernel_choice.h"
#include "runtime/loop_nest.h"
#include "runtime/ops/makers.h"
#include "runtime/strided_copy.h"

namespace pyruntime {
namespace {

// The two cells an output index lies between: lo + weight of hi.
struct Sample {
  int64_t lo, hi;
  double weight;
};

constexpr int kMaxAxes = 4;  // interpolated axes

class Resize : public Operator {
 public:
  explicit Resize(const NodeInfo& info)
      : Operator(info),
        coordinates_(info.get_string("coordinate_transformation_mode", "half_pixel")),
        rounding_(info.get_string("nearest_mode", "round_prefer_floor")) {
    info.expect_inputs(1, 1);
    info.expect_dtype(info.output(), {info.input(0).dtype});
    const std::string mode = info.get_string("mode", "nearest");
    if (mode != "nearest" && mode != "linear")
      info.fail("has mode '" + mode + "': expected nearest or linear");
    linear_ = mode == "linear";
    if (linear_) info.expect_dtype(info.output(), {DType::f32});
    expect_one_of("coordinate_transformation_mode", coordinates_,
                  {"half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"});
    expect_one_of("nearest_mode", rounding_, {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"});
    if (info.has("sizes")) {
      sizes_ = info.get_ints("sizes");
      for (int64_t s : sizes_) {
        if (s < 0) info.fail("has the size " + std::to_string(s));
      }
    } else {
      scales_ = info.get_floats("scales");
      for (double s : scales_) {
        if (!(s > 0.0 && s <= 1e6)) info.fail("has the scale " + std::to_string(s) + ": expected > 0");
      }
    }
  }

  Shape infer(const std::vector<Shape>& inputs) const override {
    const Shape& in = inputs[0];
    const size_t given = scales_.empty() ? sizes_.size() : scales_.size();
    if (given != in.size() || given == 0)
      info_.fail("has " + std::to_string(given) + " scales or sizes on an input of shape " +
                 shape_string(in));
    Shape out = sizes_;
    if (!scales_.empty()) {
      out.clear();
      for (size_t d = 0; d < in.size(); ++d)
        out.push_back(static_cast<int64_t>(std::floor(static_cast<double>(in[d]) * scales_[d])));
    }
    for (size_t d = 0; d < in.size(); ++d) {
      if (in[d] == 0 && out[d] != 0) info_.fail("cannot enlarge the empty axis " + std::to_string(d));
    }
    return out;
  }

  bool keeps_samples(const std::vector<Shape>&, const std::vector<bool>& batched) const override {
    return batched[0] && (scales_.empty() || scales_[0] == 1.0);
  }

  LayoutTraits traits() const override {
    LayoutTraits t;
    t.input = t.output = Form::channels_last;
    return t;
  }

  Step prepare(const PlanContext& context) const override {
    const Operand x = context.inputs[0], y = context.output;
    Step step = linear_ ? prepare_linear(context, x, y) : prepare_nearest(context, x, y);
    step.kernel = linear_ ? "runtime:resize_linear" : "runtime:resize_nearest";
    step.precision = y.t.dtype == DType::f32 ? "float32" : "int8";
    return step;
  }

 private:
  void expect_one_of(const char* attribute, const std::string& value,
                     std::initializer_list<const char*> allowed) {
    for (const char* a : allowed) {
      if (value == a) return;
    }
    info_.fail(std::string("has the unsupported ") + attribute + " '" + value + "'");
  }

  double scale(size_t axis, int64_t in, int64_t out) const {
    if (!scales_.empty()) return scales_[axis];
    return static_cast<double>(out) / static_cast<double>(std::max<int64_t>(in, 1));
  }

  // Where output index i falls in the input.
  double position(int64_t i, int64_t in, int64_t out, double scale) const {
    const double index = static_cast<double>(i);
    if (coordinates_ == "asymmetric") return index / scale;
    if (coordinates_ == "align_corners")
      return out > 1 ? index * (static_cast<double>(in - 1) / static_cast<double>(out - 1)) : 0.0;
    if (coordinates_ == "pytorch_half_pixel" && out == 1) return 0.0;
    return (index + 0.5) / scale - 0.5;
  }

  int64_t nearest(double p, int64_t in) const {
    double r = p;
    if (rounding_ == "round_prefer_floor") {
      r = std::ceil(p - 0.5);
    } else if (rounding_ == "round_prefer_ceil") {
      r = std::floor(p + 0.5);
    } else {
      r = rounding_ == "floor" ? std::floor(p) : std::ceil(p);
    }
    return static_cast<int64_t>(std::min(std::max(r, 0.0), static_cast<double>(in - 1)));
  }

  bool unchanged(size_t axis, int64_t in, int64_t out) const {
    return in == out && scale(axis, in, out) == 1.0;
  }

  Step prepare_nearest(const PlanContext& context, const Operand& x, const Operand& y) const {
    std::vector<std::vector<int64_t>> maps;
    for (size_t d = 0; d < y.t.shape.size(); ++d) {
      const int64_t in = x.t.shape[d], out = y.t.shape[d];
      std::vector<int64_t> map(static_cast<size_t>(out));
      for (int64_t i = 0; i < out; ++i)
        map[i] = unchanged(d, in, out) ? i : nearest(position(i, in, out, scale(d, in, out)), in);
      maps.push_back(std::move(map));
    }
    const double bytes = static_cast<double>(y.t.count()) * static_cast<double>(y.t.item());
    auto copy = std::make_shared<const MappedCopy>(y.t, x.t, std::move(maps),
                                                   tasks_for_cycles(bytes / 2, context.num_threads));
    Step step;
    step.tasks = copy->tasks();
    step.run = [=](const RunContext& run, int task, int) {
      copy->run(run.at<char>(y), run.at<const char>(x), nullptr, task);
    };
    return step;
  }

  Step prepare_linear(const PlanContext& context, const Operand& x, const Operand& y) const {
    struct Axis {
      int64_t size;        // of the output
      ptrdiff_t dst, src;  // strides
      int corner;          // which bit of the corner index this axis owns; -1: not interpolated
      std::vector<Sample> samples;
    };
    auto axes = std::make_shared<std::vector<Axis>>();
    int corners = 0;
    for (size_t d = 0; d < y.t.shape.size(); ++d) {
      const int64_t in = x.t.shape[d], out = y.t.shape[d];
      Axis a{out, y.t.strides[d], x.t.strides[d], -1, {}};
      if (!unchanged(d, in, out)) {
        if (corners == kMaxAxes) info_.fail("interpolates more than 4 axes");
        a.corner = corners++;
        for (int64_t i = 0; i < out; ++i) {
          const double last = static_cast<double>(in - 1);
          const double p = std::min(std::max(position(i, in, out, scale(d, in, out)), 0.0), last);
          const int64_t lo = static_cast<int64_t>(std::floor(p));
          a.samples.push_back({lo, std::min(lo + 1, in - 1), p - static_cast<double>(lo)});
        }
      }
      axes->push_back(std::move(a));
    }
    std::stable_sort(axes->begin(), axes->end(), [](const Axis& a, const Axis& b) { return a.dst > b.dst; });
    const int64_t inner = axes->back().size, outer = y.t.count() / inner;
    Step step;
    step.tasks = static_cast<int>(std::min<int64_t>(
        outer, tasks_for_cycles(4.0 * static_cast<double>(y.t.count()), context.num_threads)));
    const int tasks = step.tasks;
    step.run = [=](const RunContext& run, int task, int) {
      const float* source = run.at<const float>(x);
      float* target = run.at<float>(y);
      std::array<int64_t, 1 << kMaxAxes> offset{};
      std::array<double, kMaxAxes> weight{};
      for (int64_t unit = outer * task / tasks; unit < outer * (task + 1) / tasks; ++unit) {
        offset.fill(0);
        int64_t rest = unit, to = 0;
        auto place = [&](const Axis& a, int64_t index) {
          to += index * a.dst;
          if (a.corner >= 0) weight[a.corner] = a.samples[index].weight;
          for (int c = 0; c < 1 << corners; ++c) {
            const bool high = a.corner >= 0 && (c >> a.corner & 1);
            const int64_t cell = a.corner < 0 ? index : high ? a.samples[index].hi : a.samples[index].lo;
            offset[c] += cell * a.src;
          }
        };
        for (size_t d = axes->size() - 1; d-- > 0;) {
          place((*axes)[d], rest % (*axes)[d].size);
          rest /= (*axes)[d].size;
        }
        const Axis& last = axes->back();
        const std::array<int64_t, 1 << kMaxAxes> base = offset;
        const int64_t row = to;
        for (int64_t i = 0; i < inner; ++i) {
          offset = base;
          to = row;
          place(last, i);
          target[to] = blend(source, offset, weight, corners);
        }
      }
    };
    return step;
  }

  // Axis by axis, in axis order, as the definition does it.
  static float blend(const float* x, const std::array<int64_t, 1 << kMaxAxes>& offset,
                     const std::array<double, kMaxAxes>& weight, int corners) {
    std::array<double, 1 << kMaxAxes> v{};
    for (int c = 0; c < 1 << corners; ++c) v[c] = static_cast<double>(x[offset[c]]);
    for (int a = 0; a < corners; ++a) {
      for (int c = 0; c < 1 << (corners - a - 1); ++c)
        v[c] = v[2 * c] * (1.0 - weight[a]) + v[2 * c + 1] * weight[a];
    }
    return static_cast<float>(v[0]);
  }

  bool linear_ = false;
  std::string coordinates_, rounding_;
  std::vector<int64_t> sizes_;
  std::vector<double> scales_;
};

}  // namespace

std::unique_ptr<Operator> make_resize(const NodeInfo& info) { return std::make_unique<Resize>(info); }

}  // namespace pyruntime
