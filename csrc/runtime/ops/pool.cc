// max_pool and average_pool, windowed and global, u8 and f32, channels-last.
#include "kernels/pool/pool.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/kernel_choice.h"
#include "runtime/ops/makers.h"
#include "runtime/window.h"

namespace pyruntime {
namespace {

class Pool : public Operator {
 public:
  explicit Pool(const NodeInfo& info)
      : Operator(info),
        maximum_(info.node().op == "max_pool"),
        global_(info.get_int("global", 0) != 0),
        include_pad_(info.get_int("count_include_pad", 0) != 0),
        integer_(info.input(0).dtype == DType::u8) {
    info.expect_inputs(1, 1);
    info.expect_dtype(info.input(0), {DType::u8, DType::f32});
    info.expect_dtype(info.output(), {info.input(0).dtype});
    if (!global_) {
      const std::vector<int64_t> kernel = info.get_ints("kernel");
      window_ = read_window(info, kernel);
      window_.ceil_mode = info.get_int("ceil_mode", 0) != 0;
      spatial_axes_ = kernel.size();
    }
    if (integer_ && !maximum_) {
      multiplier_ = info.get_float("multiplier");
      if (!std::isfinite(multiplier_)) info.fail("has a multiplier that is not finite");
    }
  }

  Shape infer(const std::vector<Shape>& inputs) const override {
    const Shape& in = inputs[0];
    if (in.size() < 3 || in.size() > 4)
      info_.fail("has an input of shape " + shape_string(in) + ": expected rank 3 or 4");
    if (!global_) return window_output(info_, window_, spatial_axes_, in, in[1]);
    for (size_t d = 2; d < in.size(); ++d) {
      if (in[d] == 0 && in[0] != 0) info_.fail("has an empty image of shape " + shape_string(in));
    }
    Shape out = in;
    std::fill(out.begin() + 2, out.end(), 1);
    return out;
  }

  bool keeps_samples(const std::vector<Shape>&, const std::vector<bool>& batched) const override {
    return batched[0];
  }

  LayoutTraits traits() const override {
    LayoutTraits t;
    t.input = t.output = Form::channels_last;
    return t;
  }

  Step prepare(const PlanContext& context) const override {
    int count = 0;
    const PoolKernels* rows = pool_kernels(&count);
    const PoolKernels& kernel = strongest_row(rows, count, context.isa, "pool");
    const ImageView in = image_view(context.inputs[0].t);
    Window w = window_;
    if (global_) {
      w = Window();
      w.kh = in.rows;
      w.kw = in.cols;
    }
    const bool whole = global_ && integer_ && !maximum_ && in.row_pitch == in.cols * in.col_pitch;
    Step step = whole ? prepare_global_u8(context, kernel, in) : prepare_windows(context, kernel, w, in);
    step.kernel = kernel.name;
    step.isa = isa_name(kernel.isa);
    step.precision = integer_ ? "int8" : "float32";
    return step;
  }

 private:
  Step prepare_global_u8(const PlanContext& context, const PoolKernels& kernel, const ImageView& in) const {
    const Operand x = context.inputs[0], y = context.output;
    const int64_t pixels = in.rows * in.cols, channels = in.channels;
    const float multiplier = static_cast<float>(multiplier_ / static_cast<double>(pixels));
    const int32_t zero_x = info_.input(0).zero_point;
    const float zero_y = static_cast<float>(info_.output().zero_point);
    const double cycles = static_cast<double>(in.images * pixels * channels) / 8;
    const int want = tasks_for_cycles(cycles, context.num_threads);
    int64_t parts = 1, part = channels;
    if (in.images < want && channels >= 128) {
      part = ((channels * in.images + want - 1) / want + 63) / 64 * 64;
      parts = (channels + part - 1) / part;
    }
    const ptrdiff_t y_image = y.t.strides[0];
    Step step;
    step.tasks = static_cast<int>(in.images * parts);
    step.run = [=, &kernel](const RunContext& run, int task, int) {
      const int64_t image = task / parts, first = task % parts * part;
      kernel.global_average_u8(run.at<const uint8_t>(x) + image * in.image_pitch + first, in.col_pitch,
                               static_cast<int>(pixels), static_cast<int>(std::min(part, channels - first)),
                               zero_x, multiplier, zero_y, run.at<uint8_t>(y) + image * y_image + first);
    };
    return step;
  }

  Step prepare_windows(const PlanContext& context, const PoolKernels& kernel, const Window& w,
                       const ImageView& in) const {
    const Operand x = context.inputs[0], y = context.output;
    const ImageView out = image_view(y.t);
    const double per_cycle = kernel.isa == Isa::scalar ? 1.0 : integer_ ? 16.0 : 8.0;
    const double cycles = static_cast<double>(y.t.count()) * static_cast<double>(w.kh * w.kw) / per_cycle;
    const int64_t units = out.images * out.rows;
    Step step;
    step.tasks = static_cast<int>(std::min<int64_t>(units, tasks_for_cycles(cycles, context.num_threads)));
    step.scratch_bytes =
        static_cast<size_t>(std::min(w.kh, in.rows) * std::min(w.kw, in.cols)) * sizeof(void*);
    const int tasks = step.tasks;
    const Args args = {w,
                       maximum_,
                       integer_,
                       include_pad_,
                       multiplier_,
                       info_.input(0).zero_point,
                       static_cast<float>(info_.output().zero_point),
                       column_runs(w, in.cols, out.cols)};
    step.run = [=, &kernel](const RunContext& run, int task, int thread) {
      const int64_t end = units * (task + 1) / tasks;
      for (int64_t unit = units * task / tasks; unit < end; ++unit) {
        const int64_t image = unit / out.rows, row = unit % out.rows;
        char* to = run.at<char>(y) + (image * out.image_pitch + row * out.row_pitch) * (args.integer ? 1 : 4);
        const char* from = run.at<const char>(x) + image * in.image_pitch * (args.integer ? 1 : 4);
        if (args.integer) {
          pool_row<uint8_t>(kernel, args, in, out, row, from, to, run.scratch_of(thread));
        } else {
          pool_row<float>(kernel, args, in, out, row, from, to, run.scratch_of(thread));
        }
      }
    };
    return step;
  }

  // Taps of one axis of a window.
  struct Taps {
    int64_t begin, end;
    int64_t count() const { return end - begin; }
  };

  // Output pixels of one row whose windows have the same taps: `left` is the column where the first begins.
  struct ColumnRun {
    int64_t col, pixels, left;
    Taps across;
    int64_t padded;  // taps that count where padding does
  };

  struct Args {
    Window window;
    bool maximum, integer, include_pad;
    double multiplier;
    int32_t zero_x;
    float zero_y;
    std::vector<ColumnRun> columns;
  };

  // Pixels whose windows lie inside the input's columns differ by a constant step: they are one run, and only
  // those at the edges find their cells one by one. Planned ahead: the divisions took longer than the pixels
  // of a row of 14.
  static std::vector<ColumnRun> column_runs(const Window& w, int64_t in_cols, int64_t out_cols) {
    const int64_t first_inside = (w.left + w.stride_w - 1) / w.stride_w;
    const int64_t last_start = in_cols - w.extent_w() + w.left;
    const int64_t inside = last_start < 0 ? 0 : std::min(last_start / w.stride_w + 1, out_cols);
    std::vector<ColumnRun> runs;
    for (int64_t col = 0; col < out_cols; col += runs.back().pixels) {
      const int64_t pixels = col >= first_inside && col < inside ? inside - col : 1;
      const int64_t left = col * w.stride_w - w.left;
      runs.push_back({col, pixels, left, taps_inside(w.kw, w.dilation_w, left, 0, in_cols),
                      taps_inside(w.kw, w.dilation_w, left, -w.left, in_cols + w.right).count()});
    }
    return runs;
  }

  // One row of output pixels.
  template <typename T>
  static void pool_row(const PoolKernels& kernel, const Args& args, const ImageView& in, const ImageView& out,
                       int64_t row, const char* image, char* out_row, char* scratch) {
    const Window& w = args.window;
    const T** cells = reinterpret_cast<const T**>(scratch);
    const T* x = reinterpret_cast<const T*>(image);
    T* y = reinterpret_cast<T*>(out_row);
    const int64_t top = row * w.stride_h - w.top;
    const Taps down = taps_inside(w.kh, w.dilation_h, top, 0, in.rows);
    const int64_t padded_rows = taps_inside(w.kh, w.dilation_h, top, -w.top, in.rows + w.bottom).count();
    for (const ColumnRun& columns : args.columns) {
      int count = 0;
      for (int64_t i = down.begin; i < down.end; ++i) {
        const T* cell_row = x + (top + i * w.dilation_h) * in.row_pitch + columns.left * in.col_pitch;
        for (int64_t j = columns.across.begin; j < columns.across.end; ++j)
          cells[count++] = cell_row + j * w.dilation_w * in.col_pitch;
      }
      const int64_t divisor = args.include_pad ? padded_rows * columns.padded : count;
      const PoolRun run = {count, static_cast<int>(in.channels), static_cast<int>(columns.pixels),
                           w.stride_w * in.col_pitch, out.col_pitch};
      reduce(kernel, args, run, cells, std::max<int64_t>(divisor, 1), y + columns.col * out.col_pitch);
    }
  }

  // Taps i of one axis whose cell start + i * dilation lies in [lo, hi).
  static Taps taps_inside(int64_t taps, int64_t dilation, int64_t start, int64_t lo, int64_t hi) {
    const auto up_to = [=](int64_t bound) {  // taps before `bound`
      if (bound <= start) return int64_t{0};
      return dilation == 1 ? bound - start : (bound - start + dilation - 1) / dilation;
    };
    const int64_t begin = up_to(lo), end = up_to(hi);
    return {std::min(begin, taps), std::max(std::min(begin, taps), std::min(end, taps))};
  }

  static void reduce(const PoolKernels& kernel, const Args& args, const PoolRun& run, const uint8_t** cells,
                     int64_t divisor, uint8_t* y) {
    if (!args.maximum) {
      kernel.average_u8(run, cells, args.zero_x,
                        static_cast<float>(args.multiplier / static_cast<double>(divisor)), args.zero_y, y);
    } else if (run.count > 0) {
      kernel.max_u8(run, cells, y);
    } else {
      fill(run, uint8_t{0}, y);
    }
  }
  static void reduce(const PoolKernels& kernel, const Args& args, const PoolRun& run, const float** cells,
                     int64_t divisor, float* y) {
    if (!args.maximum) {
      kernel.average_f32(run, cells, static_cast<float>(divisor), y);
    } else if (run.count > 0) {
      kernel.max_f32(run, cells, y);
    } else {
      fill(run, -std::numeric_limits<float>::infinity(), y);
    }
  }

  template <typename T>
  static void fill(const PoolRun& run, T value, T* y) {
    for (int p = 0; p < run.pixels; ++p) std::fill_n(y + p * run.y_step, run.channels, value);
  }

  bool maximum_, global_, include_pad_, integer_;
  Window window_;
  size_t spatial_axes_ = 0;
  double multiplier_ = 0.0;
};

}  // namespace

std::unique_ptr<Operator> make_pool(const NodeInfo& info) { return std::make_unique<Pool>(info); }

}  // namespace pyruntime
