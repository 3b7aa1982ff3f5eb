#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/conv_int8/conv_int8.h"
#include "kernels/conv_int8/int4.h"
#include "kernels/conv_int8/winograd.h"
#include "runtime/kernel_choice.h"
#include "runtime/layer_int8_requant.h"
#include "runtime/table_epilogue.h"
#include "runtime/weight_counts.h"

namespace pyruntime {
namespace {

std::vector<float> padded_floats(const NodeInfo& info, int input, int64_t n) {
  const Value& v = info.constant(input);
  info.expect_dtype(v, {DType::f32});
  if (v.shape != Shape{n})
    info.fail("has '" + v.name + "' of shape " + shape_string(v.shape) + ": expected " + shape_string({n}));
  std::vector<float> result(n + 128, 0.0f);
  const float* data = static_cast<const float*>(v.data);
  for (int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(data[i])) info.fail("has a value that is not finite in '" + v.name + "'");
    result[i] = flush_subnormal(data[i]);
  }
  return result;
}

float clamp_bound(const NodeInfo& info, const char* name, float fallback, bool f32) {
  const float v = static_cast<float>(info.get_float(name, fallback));
  if (std::isnan(v)) info.fail(std::string("has attribute '") + name + "' that is NaN");
  if (!f32 && (v != std::floor(v) || v < 0.0f || v > 255.0f))
    info.fail(std::string("has attribute '") + name + "' = " + std::to_string(v) +
              ": expected a whole number 0..255");
  return v;
}

// Blocks of 4 channels that are not all zero, in rows of k channels.
int64_t count_blocks(const int8_t* w, int64_t rows, int64_t k) {
  WeightCounts counts;
  if (k % 4 == 0) {
    add_counts(w, rows * k, &counts);
  } else {
    for (int64_t row = 0; row < rows; ++row) add_counts(w + row * k, k, &counts);
  }
  return counts.blocks;
}

float finite_attribute(const NodeInfo& info, const char* name) {
  const float v = static_cast<float>(info.get_float(name));
  if (!std::isfinite(v)) info.fail(std::string("has attribute '") + name + "' that is not finite");
  return v;
}

}  // namespace

Int8Layer::Int8Layer(const NodeInfo& info, const LayerShape& shape) : info_(info), shape_(shape) {
  auto r = std::make_shared<Requant>();
  info.expect_dtype(info.output(), {DType::u8, DType::f32});
  info.expect_dtype(info.constant(1), {DType::s8});
  r->f32_output = info.output().dtype == DType::f32;
  r->multiplier = padded_floats(info, 2, shape.n);
  r->offset = padded_floats(info, 3, shape.n);
  const float infinity = std::numeric_limits<float>::infinity();
  r->lo = clamp_bound(info, "lo", r->f32_output ? -infinity : 0.0f, r->f32_output);
  r->hi = clamp_bound(info, "hi", r->f32_output ? infinity : 255.0f, r->f32_output);
  if (info.has_input(4)) {
    if (r->f32_output) info.fail("has a residual and f32 output: expected u8 output");
    info.expect_dtype(info.input(4), {DType::u8});
    r->a_multiplier = finite_attribute(info, "a_multiplier");
    r->b_multiplier = finite_attribute(info, "b_multiplier");
    r->add_offset = finite_attribute(info, "add_offset");
    r->add_lo = clamp_bound(info, "add_lo", 0.0f, false);
    r->add_hi = clamp_bound(info, "add_hi", 255.0f, false);
  }
  // |sum (x - zero_point) * w| <= 255 * sum |w|, whatever part of the sum is taken.
  const int8_t* w = static_cast<const int8_t*>(info.constant(1).data);
  const int64_t per_output = shape.taps() * shape.k;
  const int64_t zero_point = info.input(0).zero_point;
  r->acc_init.assign(shape.n + 128, 0);
  WeightCounts all;
  for (int64_t o = 0; o < shape.n; ++o) {
    WeightCounts counts;
    add_counts(w + o * per_output, per_output, &counts);
    all.nonzero += counts.nonzero;
    all.blocks += counts.blocks;
    if (255 * counts.magnitude >= (int64_t{1} << 31))
      info.fail("has weights '" + info.constant(1).name + "' whose output channel " + std::to_string(o) +
                " can overflow a 32-bit accumulator");
    r->acc_init[o] = static_cast<int32_t>(-zero_point * counts.sum);
    largest_sum_ = std::max(largest_sum_, (counts.magnitude + std::abs(counts.sum)) / 2);
  }
  requant_ = std::move(r);
  constexpr int64_t kMostChannels = 128;  // of merged groups
  if (shape.groups == 1 && shape.kw > 1) packings_.push_back(make_packing(1, true, all));
  for (int64_t merge = 1; merge <= shape.groups && !shape.depthwise(); ++merge) {
    if (shape.groups % merge != 0) continue;
    if (merge > 1 && merge * std::max(shape.k, shape.group_n()) > kMostChannels) break;
    packings_.push_back(make_packing(merge, false, all));
  }
}

const int8_t* Int8Layer::in_memory(int64_t merge) const {
  const Value& constant = info_.constant(1);
  const bool channels_last = constant.channels_last || shape_.taps() == 1 || shape_.k == 1;
  return merge == 1 && channels_last ? static_cast<const int8_t*>(constant.data) : nullptr;
}

const int8_t* Int8Layer::matrix(int64_t merge, std::vector<int8_t>* made) const {
  if (const int8_t* w = in_memory(merge)) return w;
  const int64_t taps = shape_.taps(), k = shape_.k, n = shape_.n, merged_k = k * merge;
  const Value& constant = info_.constant(1);
  const int8_t* w = static_cast<const int8_t*>(constant.data);
  const bool channels_last = constant.channels_last || taps == 1 || k == 1;
  const int64_t tap_stride = channels_last ? k : 1, channel_stride = channels_last ? 1 : taps;
  made->assign(static_cast<size_t>(n * taps * merged_k), 0);
  for (int64_t o = 0; o < n; ++o) {
    const int64_t first = o / shape_.group_n() % merge * k;  // the group's channels within the merged group
    for (int64_t t = 0; t < taps; ++t) {
      int8_t* to = made->data() + (o * taps + t) * merged_k + first;
      const int8_t* from = w + o * k * taps + t * tap_stride;
      for (int64_t c = 0; c < k; ++c) to[c] = from[c * channel_stride];
    }
  }
  return made->data();
}

Step Int8Layer::prepare(const PlanContext& context, LayerGrid grid) const {
  grid.collapse();
  return shape_.depthwise() ? prepare_depthwise(context, grid) : prepare_groups(context, grid);
}

Int8Layer::Packing Int8Layer::make_packing(int64_t merge, bool folded, const WeightCounts& all) const {
  Packing p{merge,
            shape_.groups / merge,
            shape_.group_n() * merge,
            shape_.taps(),
            shape_.k * merge,
            folded,
            1,
            1,
            false,
            !folded && shape_.kh == 3 && conv_int8::fits_winograd(shape_.taps(), largest_sum_)};
  if (folded) {
    p.taps = shape_.kh;
    p.k = shape_.k * shape_.kw;
  }
  // Folded or not, an output's weights stand in the order (tap, channel).
  std::vector<int8_t> made;
  const int8_t* w = matrix(merge, &made);
  const int64_t rows = shape_.n * p.taps;
  const bool counted = in_memory(merge) != nullptr && p.k % 4 == 0;
  const int64_t blocks = counted ? all.blocks : count_blocks(w, rows, p.k);
  p.weights = static_cast<double>(all.nonzero) / static_cast<double>(rows * p.k);
  p.blocks = static_cast<double>(blocks) / static_cast<double>(rows * ((p.k + 3) / 4));
  p.fits_int4 =
      conv_int8::fits_int4({w, static_cast<int>(shape_.n), static_cast<int>(p.taps), static_cast<int>(p.k)});
  return p;
}

// The packed weights of all merged groups, one after the other; group_offset receives where each starts.
std::shared_ptr<const AlignedBuffer> Int8Layer::pack(const PlanContext& context, const Choice& choice,
                                                     std::vector<size_t>* group_offset) const {
  const ConvInt8Kernel& kernel = *choice.kernel;
  const Packing& p = *choice.packing;
  const size_t table_bytes = static_cast<size_t>(p.groups + 1) * sizeof(size_t);
  const int variant = static_cast<int>(2 * p.merge + (p.folded ? 1 : 0));
  auto packed = context.cache->get({info_.index(), &kernel, variant}, [&] {
    std::vector<int8_t> made;
    const int8_t* w = matrix(p.merge, &made);
    auto group_weights = [&](int64_t g) {
      return ConvInt8Weights{w + g * p.n * p.taps * p.k, static_cast<int>(p.n), static_cast<int>(p.taps),
                             static_cast<int>(p.k)};
    };
    std::vector<size_t> offsets(p.groups + 1, 0);
    for (int64_t g = 0; g < p.groups; ++g)
      offsets[g + 1] = offsets[g] + (kernel.packed_bytes(group_weights(g)) + 63) / 64 * 64;
    // The table of offsets stands behind the packed weights: sparse rows differ in size from group to group.
    AlignedBuffer buffer = context.cache->allocate(offsets.back() + table_bytes);
    for (int64_t g = 0; g < p.groups; ++g) kernel.pack(group_weights(g), buffer.data() + offsets[g]);
    std::copy(offsets.begin(), offsets.end(), reinterpret_cast<size_t*>(buffer.data() + offsets.back()));
    return buffer;
  });
  const size_t* table = reinterpret_cast<const size_t*>(packed->data() + packed->size() - table_bytes);
  group_offset->assign(table, table + p.groups + 1);
  return packed;
}

int64_t Int8Layer::pixel_block(const Choice& choice, const LayerGrid& grid) const {
  const ConvInt8Kernel& kernel = *choice.kernel;
  if (kernel.format == WeightFormat::winograd) return kernel.pixel_block;  // rows of tiles
  return pixel_granule(grid, kernel.pixel_block);
}

LayerSplit Int8Layer::split(const PlanContext& context, const Choice& choice, const LayerGrid& grid,
                            size_t packed_bytes) const {
  const ConvInt8Kernel& kernel = *choice.kernel;
  const Packing& p = *choice.packing;
  const int64_t pixel_block = this->pixel_block(choice, grid);
  if (choice.pixel_parts > 0)
    return split_into(grid, p.groups, p.n, kernel.n_block, pixel_block, choice.pixel_parts,
                      choice.channel_parts);
  const int tasks = tasks_for_cycles(choice.cycles, context.num_threads);
  constexpr int64_t kStrip = 16;  // pixels: sparse rows that take more transpose the inputs of each task
  const bool strips = kernel.format == WeightFormat::block4 && grid.pixels() >= kStrip;
  if (kernel.format == WeightFormat::winograd || strips) {
    const bool window = grid.is_window();
    const int threads = tasks == 1 ? 1 : context.num_threads;
    const auto cycles = [&](int64_t rows, int64_t cols, int64_t n) {
      const ConvInt8Weights piece{nullptr, static_cast<int>(n), static_cast<int>(p.taps),
                                  static_cast<int>(p.k)};
      const double own = kernel.cost(piece, strips ? p.blocks : 1.0, {1, rows, cols, window});
      const double inputs = static_cast<double>(rows * cols) * static_cast<double>(shape_.k);
      return n == p.n ? own : own + fetch_cycles(inputs, threads);
    };
    return split_tiles(grid, p.groups, p.n, kernel.n_block, pixel_block, threads, cycles);
  }
  const double input_bytes =
      static_cast<double>(grid.pixels()) * static_cast<double>(shape_.k * shape_.groups);
  return split_layer(context, grid, p.groups, p.n, kernel.n_block, pixel_block,
                     {choice.cycles, static_cast<double>(packed_bytes), input_bytes});
}

Step Int8Layer::prepare_groups(const PlanContext& context, const LayerGrid& grid) const {
  const std::shared_ptr<StepTuning> tuning = start_report(context, grid);
  const std::vector<Choice> usable = usable_rows(context, grid);
  const Choice choice = choose(context, usable, tuning.get());
  const ConvInt8Kernel& kernel = *choice.kernel;
  const Packing& packing = *choice.packing;
  const int64_t n = packing.n, k = packing.k / (packing.folded ? shape_.kw : 1);  // channels per group
  std::vector<size_t> group_offset;
  const auto packed = pack(context, choice, &group_offset);
  const LayerSplit split = this->split(context, choice, grid, group_offset.back());
  LayerShape taps = shape_;
  if (packing.folded) taps.kw = 1;
  const std::vector<int32_t> taps_table = tap_offsets(taps, grid);
  ConvInt8Args base;
  base.x_row_stride = grid.x.row;
  base.x_col_stride = grid.x.col;
  base.tap_offset = taps_table.data();
  base.taps = static_cast<int>(packing.taps);
  base.k = static_cast<int>(packing.k);
  base.rows = static_cast<int>(split.row_size);
  base.cols = static_cast<int>(split.col_size);
  base.w = packed->data();
  base.n = static_cast<int>(n);
  base.n_end = static_cast<int>(split.n_size);
  base.y_row_stride = grid.y.row;
  base.y_col_stride = grid.y.col;
  base.requantize = requant_->arguments(0);

  Step step;
  step.tasks = split.tasks();
  step.kernel = kernel.name;
  step.isa = isa_name(kernel.isa);
  step.precision = "int8";
  if (kernel.format != WeightFormat::dense && kernel.format != WeightFormat::winograd)
    step.precision += std::string(" (") + weight_format_name(kernel.format) + ")";
  step.weight_bytes = group_offset.back();
  step.scratch_bytes = kernel.scratch_bytes(base);
  if (tuning != nullptr) report_choice(context, grid, choice, split, usable, tuning.get());
  step.tuning = tuning;
  const Operand x = context.inputs[0], y = context.output;
  const Operand residual = grid.has_residual ? context.inputs[4] : Operand();
  const TableEpilogue epilogue(context, grid.y);
  const std::shared_ptr<const Requant> requant = requant_;
  const ptrdiff_t y_item = requant->f32_output ? 4 : 1;
  step.run = [=, &kernel](const RunContext& run, int task, int thread) {
    const LayerPiece p = split.piece(task);
    ConvInt8Args a = base;
    a.x = run.at<const uint8_t>(x) + p.image * grid.x.image + p.row * grid.x.row + p.col * grid.x.col +
          p.group * k;
    a.tap_offset = taps_table.data();
    a.rows = static_cast<int>(p.rows);
    a.cols = static_cast<int>(p.cols);
    a.w = packed->data() + group_offset[p.group];
    a.n_begin = static_cast<int>(p.n_begin);
    a.n_end = static_cast<int>(p.n_end);
    a.y = run.at<char>(y) + p.image * grid.y.image + p.row * grid.y.row + p.col * grid.y.col +
          p.group * n * y_item;
    a.requantize = requant->arguments(p.group * n);
    if (residual.present()) {
      a.requantize.residual = run.at<const uint8_t>(residual) + p.image * grid.residual.image +
                              p.row * grid.residual.row + p.col * grid.residual.col + p.group * n;
      a.requantize.residual_row_stride = grid.residual.row;
      a.requantize.residual_col_stride = grid.residual.col;
    }
    a.scratch = run.scratch_of(thread);
    kernel.run(a);
    epilogue.run(a.y, p, n);
  };
  return step;
}

}  // namespace pyruntime
