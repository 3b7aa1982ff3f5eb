// pad: constant, reflect and edge, on any axes; negative pads crop first.
#include <array>
#include <cmath>
#include <cstring>

#include "runtime/kernel_choice.h"
#include "runtime/ops/makers.h"
#include "runtime/strided_copy.h"

namespace pyruntime {
namespace {

enum class Mode { constant, reflect, edge };

class Pad : public Operator {
 public:
  explicit Pad(const NodeInfo& info) : Operator(info), pads_(info.get_ints("pads")) {
    info.expect_inputs(1, 1);
    info.expect_dtype(info.output(), {info.input(0).dtype});
    const std::string mode = info.get_string("mode", "constant");
    if (mode != "constant" && mode != "reflect" && mode != "edge")
      info.fail("has mode '" + mode + "': expected constant, reflect or edge");
    mode_ = mode == "constant" ? Mode::constant : mode == "reflect" ? Mode::reflect : Mode::edge;
    set_fill(info.get_float("value", 0.0));
    for (int64_t p : pads_) {
      if (p < -kMaxElements || p > kMaxElements) info.fail("has the pad " + std::to_string(p));
    }
  }

  Shape infer(const std::vector<Shape>& inputs) const override {
    const Shape& in = inputs[0];
    if (pads_.size() != 2 * in.size())
      info_.fail("has " + std::to_string(pads_.size()) + " pads on an input of shape " + shape_string(in) +
                 ": expected " + std::to_string(2 * in.size()));
    Shape out = in;
    for (size_t d = 0; d < in.size(); ++d) {
      const int64_t begin = pads_[d], end = pads_[d + in.size()];
      const int64_t kept = in[d] + std::min<int64_t>(begin, 0) + std::min<int64_t>(end, 0);
      out[d] = in[d] + begin + end;
      if (kept < 0 || (kept == 0 && mode_ != Mode::constant && out[d] > 0))
        info_.fail("has pads that leave nothing of axis " + std::to_string(d) + " of " + shape_string(in));
    }
    return out;
  }

  bool keeps_samples(const std::vector<Shape>& inputs, const std::vector<bool>& batched) const override {
    return batched[0] && pads_[0] == 0 && pads_[inputs[0].size()] == 0;
  }

  LayoutTraits traits() const override {
    LayoutTraits t;
    t.propagates = true;
    return t;
  }

  Step prepare(const PlanContext& context) const override {
    const Operand x = context.inputs[0], y = context.output;
    std::vector<std::vector<int64_t>> maps;
    const size_t rank = x.t.shape.size();
    for (size_t d = 0; d < rank; ++d)
      maps.push_back(axis_map(x.t.shape[d], y.t.shape[d], pads_[d], pads_[d + rank]));
    const double bytes = static_cast<double>(y.t.count()) * static_cast<double>(y.t.item());
    auto copy = std::make_shared<const MappedCopy>(y.t, x.t, std::move(maps),
                                                   tasks_for_cycles(bytes / 2, context.num_threads));
    Step step;
    step.tasks = copy->tasks();
    step.kernel = "runtime:pad";
    step.precision = y.t.dtype == DType::f32 ? "float32" : "int8";
    const std::array<char, 8> fill = fill_;
    step.run = [=](const RunContext& run, int task, int) {
      copy->run(run.at<char>(y), run.at<const char>(x), fill.data(), task);
    };
    return step;
  }

 private:
  // Source index of every output index along one axis, -1 for the fill value.
  std::vector<int64_t> axis_map(int64_t in, int64_t out, int64_t begin, int64_t end) const {
    const int64_t lo = std::max<int64_t>(-begin, 0), n = in - lo - std::max<int64_t>(-end, 0);
    std::vector<int64_t> map(static_cast<size_t>(out));
    for (int64_t i = 0; i < out; ++i) {
      int64_t j = i - std::max<int64_t>(begin, 0);  // within the n cells that are kept
      if (mode_ == Mode::constant) {
        map[i] = j >= 0 && j < n ? j + lo : -1;
        continue;
      }
      if (mode_ == Mode::edge || n == 1) {
        j = std::min(std::max<int64_t>(j, 0), n - 1);
      } else {
        const int64_t period = 2 * (n - 1);
        j = (j % period + period) % period;
        j = std::min(j, period - j);
      }
      map[i] = j + lo;
    }
    return map;
  }

  void set_fill(double value) {
    const DType t = info_.output().dtype;
    auto store = [&](auto v) { std::memcpy(fill_.data(), &v, sizeof(v)); };
    if (t == DType::f32) return store(static_cast<float>(value));
    const double lo = t == DType::u8 ? 0 : t == DType::s8 ? -128 : -2147483648.0;
    const double hi = t == DType::u8 ? 255 : t == DType::s8 ? 127 : 2147483647.0;
    if (!(value >= lo && value <= hi) || value != std::floor(value))
      info_.fail("has the value " + std::to_string(value) + ", which is no " + dtype_name(t));
    if (t == DType::s64) {
      store(static_cast<int64_t>(value));
    } else if (t == DType::s32) {
      store(static_cast<int32_t>(value));
    } else {
      store(static_cast<uint8_t>(static_cast<int>(value)));
    }
  }

  std::vector<int64_t> pads_;
  Mode mode_ = Mode::constant;
  std::array<char, 8> fill_{};
};

}  // namespace

std::unique_ptr<Operator> make_pad(const NodeInfo& info) { return std::make_unique<Pad>(info); }

}  // namespace pyruntime
