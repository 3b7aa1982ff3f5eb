// concat, slice, transpose and the reshaping operators: elements move, values do not change.
#include <algorithm>

#include "runtime/axes.h"
#include "runtime/kernel_choice.h"
#include "runtime/ops/makers.h"
#include "runtime/strided_copy.h"

namespace pyruntime {
namespace {

const char* precision_of(DType t) { return t == DType::f32 ? "float32" : "int8"; }

class Concat : public Operator {
 public:
  explicit Concat(const NodeInfo& info) : Operator(info), axis_(info.get_int("axis")) {
    info.expect_inputs(1, 4096);
    for (int i = 0; i < info.num_inputs(); ++i) info.expect_dtype(info.input(i), {info.output().dtype});
  }

  Shape infer(const std::vector<Shape>& inputs) const override {
    Shape out = inputs[0];
    const size_t axis = resolve_axis(info_, axis_, out.size());
    for (size_t i = 1; i < inputs.size(); ++i) {
      Shape expected = out;
      if (inputs[i].size() == out.size()) expected[axis] = inputs[i][axis];
      if (inputs[i] != expected)
        info_.fail("has inputs of shapes " + shape_string(inputs[0]) + " and " + shape_string(inputs[i]) +
                   ", which do not join along axis " + std::to_string(axis_));
      out[axis] += inputs[i][axis];
    }
    return out;
  }
  LayoutTraits traits() const override {
    LayoutTraits t;
    t.propagates = true;
    return t;
  }

  bool keeps_samples(const std::vector<Shape>& inputs, const std::vector<bool>& batched) const override {
    return resolve_axis(info_, axis_, inputs[0].size()) != 0 &&
           std::find(batched.begin(), batched.end(), false) == batched.end();
  }

  bool joins_channels(const Shape& output) const override {
    return output.size() >= 3 && output.size() <= 4 && resolve_axis(info_, axis_, output.size()) == 1;
  }

  Step prepare(const PlanContext& context) const override {
    struct Part {
      StridedCopy copy;
      Operand from;
      int64_t offset;  // bytes in the output
      int first_task;
    };
    auto parts = std::make_shared<std::vector<Part>>();
    const Operand y = context.output;
    const size_t axis = resolve_axis(info_, axis_, y.t.shape.size());
    const double bytes = static_cast<double>(y.t.count()) * static_cast<double>(y.t.item());
    const int want = tasks_for_cycles(bytes / 4, context.num_threads);
    int64_t at = 0;
    int tasks = 0;
    for (const Operand& x : context.inputs) {
      if (x.t.count() > 0 && x.buffer != y.buffer) {
        const double share = static_cast<double>(x.t.count()) / static_cast<double>(y.t.count());
        StridedCopy copy(x.t.shape, y.t.strides, x.t.strides, y.t.item(),
                         std::max(1, static_cast<int>(share * want + 0.5)));
        parts->push_back({copy, x, at * y.t.strides[axis] * static_cast<int64_t>(y.t.item()), tasks});
        tasks += copy.tasks();
      }
      at += x.t.shape[axis];
    }
    Step step;
    step.tasks = tasks;
    step.kernel = "runtime:concat";
    step.precision = precision_of(y.t.dtype);
    step.run = [parts, y](const RunContext& run, int task, int) {
      size_t i = parts->size() - 1;
      while ((*parts)[i].first_task > task) --i;
      const Part& part = (*parts)[i];
      part.copy.run(run.at<char>(y) + part.offset, run.at<const char>(part.from), task - part.first_task);
    };
    return step;
  }

 private:
  int64_t axis_;
};

// slice and transpose: the output is a strided view of the input, copied.
class ViewCopy : public Operator {
 public:
  explicit ViewCopy(const NodeInfo& info, int most_inputs = 1) : Operator(info) {
    info.expect_inputs(1, most_inputs);
    info.expect_dtype(info.output(), {info.input(0).dtype});
  }

 protected:
  // The step that copies `view` (strides in output axes, offset in elements) of input 0.
  Step copy_view(const PlanContext& context, const Strides& view, int64_t offset) const {
    Operand from = context.inputs[0];
    from.offset += offset * static_cast<ptrdiff_t>(from.t.item());
    from.t.strides = view;
    Step step = make_copy_step(from, context.output, context.num_threads);
    step.kernel = "runtime:" + info_.node().op;
    return step;
  }
};

class Slice : public ViewCopy {
 public:
  explicit Slice(const NodeInfo& info)
      : ViewCopy(info, 2),
        starts_(info.get_ints("starts")),
        ends_(info.get_ints("ends")),
        like_axes_(info.get_ints("like_axes", {})) {
    const int64_t n = static_cast<int64_t>(starts_.size());
    std::vector<int64_t> all(n), ones(n, 1);
    for (int64_t i = 0; i < n; ++i) all[i] = i;
    axes_ = info.get_ints("axes", all);
    steps_ = info.get_ints("steps", ones);
    if (ends_.size() != starts_.size() || axes_.size() != starts_.size() || steps_.size() != starts_.size())
      info.fail("has starts, ends, axes and steps of different lengths");
    check_like(info, like_axes_, starts_.size());
  }

  Shape infer(const std::vector<Shape>& inputs) const override {
    return cut(inputs[0], ends(inputs.size() > 1 ? inputs[1] : Shape())).shape;
  }
  bool keeps_samples(const std::vector<Shape>& inputs, const std::vector<bool>& batched) const override {
    const Cut c = cut(inputs[0], ends(inputs.size() > 1 ? inputs[1] : Shape()));
    return batched[0] && c.start[0] == 0 && c.step[0] == 1 && c.shape[0] == inputs[0][0];
  }
  LayoutTraits traits() const override {
    LayoutTraits t;
    t.propagates = true;
    t.data_inputs = 1u;
    return t;
  }
  Step prepare(const PlanContext& context) const override {
    const Cut c = cut(context.inputs[0].t.shape, ends_);  // starts and steps do not depend on the ends
    Strides view = context.inputs[0].t.strides;
    int64_t offset = 0;
    for (size_t d = 0; d < view.size(); ++d) {
      offset += c.start[d] * view[d];
      view[d] *= c.step[d];
    }
    return copy_view(context, view, offset);
  }

 private:
  struct Cut {
    Shape shape;
    std::vector<int64_t> start, step;
  };

  std::vector<int64_t> ends(const Shape& like) const {
    std::vector<int64_t> result = ends_;
    for (size_t i = 0; i < like_axes_.size(); ++i) {
      if (like_axes_[i] >= 0) result[i] = like[resolve_axis(info_, like_axes_[i], like.size())];
    }
    return result;
  }

  Cut cut(const Shape& in, const std::vector<int64_t>& ends) const {
    Cut c{in, std::vector<int64_t>(in.size(), 0), std::vector<int64_t>(in.size(), 1)};
    resolve_axes(info_, axes_, in.size());
    for (size_t i = 0; i < axes_.size(); ++i) {
      const size_t axis = resolve_axis(info_, axes_[i], in.size());
      const int64_t size = in[axis], step = steps_[i];
      if (step == 0 || step < -kLargest || step > kLargest)
        info_.fail("has step " + std::to_string(step) + ": expected nonzero and below 2^40");
      auto clamp = [&](int64_t v, int64_t lo, int64_t hi) {
        return std::min(std::max(v < 0 ? v + size : v, lo), hi);
      };
      const int64_t start = step > 0 ? clamp(starts_[i], 0, size) : clamp(starts_[i], 0, size - 1);
      const int64_t end = step > 0 ? clamp(ends[i], 0, size) : clamp(ends[i], -1, size - 1);
      const int64_t length = step > 0 ? end - start : start - end;
      const int64_t stride = step > 0 ? step : -step;
      c.shape[axis] = length > 0 ? (length + stride - 1) / stride : 0;
      c.start[axis] = start;
      c.step[axis] = step;
    }
    return c;
  }

  static constexpr int64_t kLargest = int64_t{1} << 40;
  std::vector<int64_t> starts_, ends_, like_axes_, axes_, steps_;
};

class Transpose : public ViewCopy {
 public:
  explicit Transpose(const NodeInfo& info) : ViewCopy(info), perm_(info.get_ints("perm")) {}

  Shape infer(const std::vector<Shape>& inputs) const override {
    if (perm_.size() != inputs[0].size())
      info_.fail("has a perm of " + std::to_string(perm_.size()) + " axes on an input of shape " +
                 shape_string(inputs[0]));
    resolve_axes(info_, perm_, perm_.size());
    Shape out;
    for (int64_t axis : perm_) out.push_back(inputs[0][resolve_axis(info_, axis, perm_.size())]);
    return out;
  }
  bool keeps_samples(const std::vector<Shape>& inputs, const std::vector<bool>& batched) const override {
    return batched[0] && resolve_axis(info_, perm_[0], inputs[0].size()) == 0;
  }
  LayoutTraits traits() const override { return {}; }
  Step prepare(const PlanContext& context) const override {
    Strides view;
    for (int64_t axis : perm_)
      view.push_back(context.inputs[0].t.strides[resolve_axis(info_, axis, perm_.size())]);
    return copy_view(context, view, 0);
  }

 private:
  std::vector<int64_t> perm_;
};

// reshape, flatten, squeeze, unsqueeze: the same memory under another shape.
class Reshape : public Operator {
 public:
  explicit Reshape(const NodeInfo& info) : Operator(info) {
    info.expect_inputs(1, 1);
    info.expect_dtype(info.output(), {info.input(0).dtype});
    const std::string& op = info.node().op;
    if (op == "reshape") {
      target_ = info.get_ints("shape");
      allow_zero_ = info.get_int("allowzero", 0) != 0;
    } else if (op == "flatten") {
      axis_ = info.get_int("axis", 1);
    } else {
      target_ = info.get_ints("axes");
    }
  }

  Shape infer(const std::vector<Shape>& inputs) const override {
    const Shape& in = inputs[0];
    const std::string& op = info_.node().op;
    if (op == "reshape") return reshaped(in);
    if (op == "flatten") return flattened(in);
    return op == "squeeze" ? squeezed(in) : unsqueezed(in);
  }
  // In memory a sample is one run, whatever its shape.
  bool keeps_samples(const std::vector<Shape>&, const std::vector<bool>& batched) const override {
    return batched[0];
  }
  LayoutTraits traits() const override {
    LayoutTraits t;
    t.input = t.output = Form::plain;
    return t;
  }
  bool is_alias() const override { return true; }
  Step prepare(const PlanContext&) const override { return {}; }

 private:
  Shape reshaped(const Shape& in) const {
    Shape out = target_;
    int64_t known = 1;
    int unknown = -1;
    for (size_t d = 0; d < out.size(); ++d) {
      if (out[d] == 0 && !allow_zero_) {
        if (d >= in.size()) info_.fail("copies dimension " + std::to_string(d) + ", which the input lacks");
        out[d] = in[d];
      }
      if (out[d] == -1) {
        if (unknown >= 0) info_.fail("has more than one -1 in its shape");
        unknown = static_cast<int>(d);
      } else if (out[d] < -1) {
        info_.fail("has " + std::to_string(out[d]) + " in its shape");
      } else {
        known = element_count({known, out[d]});
      }
    }
    const int64_t count = element_count(in);
    if (unknown >= 0) {
      // Of an empty tensor the nonzero dimensions decide: [0, 4, 6] as [0, -1] is [0, 24].
      out[unknown] = known == 0 ? nonzero_count(in) / nonzero_count(out) : count / known;
    }
    if (element_count(out) != count)
      info_.fail("cannot give " + shape_string(in) + " the shape " + shape_string(target_));
    return out;
  }

  static int64_t nonzero_count(Shape shape) {
    for (int64_t& d : shape) d = d > 0 ? d : 1;
    return element_count(shape);
  }

  Shape flattened(const Shape& in) const {
    const int64_t rank = static_cast<int64_t>(in.size());
    if (axis_ < -rank || axis_ > rank)
      info_.fail("has axis " + std::to_string(axis_) + " on an input of rank " + std::to_string(rank));
    const int64_t axis = axis_ < 0 ? axis_ + rank : axis_;
    return {element_count(Shape(in.begin(), in.begin() + axis)),
            element_count(Shape(in.begin() + axis, in.end()))};
  }

  Shape squeezed(const Shape& in) const {
    const std::vector<bool> gone = resolve_axes(info_, target_, in.size());
    Shape out;
    for (size_t d = 0; d < in.size(); ++d) {
      if (!gone[d]) out.push_back(in[d]);
      if (gone[d] && in[d] != 1)
        info_.fail("removes axis " + std::to_string(d) + " of " + shape_string(in) + ", which is not 1");
    }
    return out;
  }

  Shape unsqueezed(const Shape& in) const {
    const std::vector<bool> fresh = resolve_axes(info_, target_, in.size() + target_.size());
    Shape out;
    size_t next = 0;
    for (bool is_new : fresh) out.push_back(is_new ? 1 : in[next++]);
    return out;
  }

  std::vector<int64_t> target_;
  bool allow_zero_ = false;
  int64_t axis_ = 1;
};

}  // namespace

std::unique_ptr<Operator> make_concat(const NodeInfo& info) { return std::make_unique<Concat>(info); }
std::unique_ptr<Operator> make_slice(const NodeInfo& info) { return std::make_unique<Slice>(info); }
std::unique_ptr<Operator> make_transpose(const NodeInfo& info) { return std::make_unique<Transpose>(info); }
std::unique_ptr<Operator> make_reshape(const NodeInfo& info) { return std::make_unique<Reshape>(info); }

}  // namespace pyruntime
