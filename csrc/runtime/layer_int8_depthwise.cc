#include "kernels/depthwise_int8/depthwise_int8.h"
#include "runtime/kernel_choice.h"
#include "runtime/layer_int8_requant.h"
#include "runtime/table_epilogue.h"

namespace pyruntime {
namespace {

constexpr int64_t kLine = 64;            // channels
constexpr int64_t kDepthwisePixels = 8;  // a row of pixels is cut into pieces of at least so many

}  // namespace

Step Int8Layer::prepare_depthwise(const PlanContext& context, const LayerGrid& grid) const {
  int count = 0;
  const DepthwiseInt8Kernel* rows = depthwise_int8_kernels(&count);
  const int kh = static_cast<int>(shape_.kh), kw = static_cast<int>(shape_.kw);
  const int channels = static_cast<int>(shape_.n);
  const DepthwiseInt8Kernel& kernel =
      strongest_row(rows, count, context.isa, "depthwise_int8",
                    [&](const DepthwiseInt8Kernel& r) { return r.supports(kh, kw); });
  auto packed = context.cache->get({info_.index(), &kernel, 0}, [&] {
    AlignedBuffer buffer = context.cache->allocate(kernel.packed_bytes(channels, kh, kw));
    kernel.pack(static_cast<const int8_t*>(info_.constant(1).data), channels, kh, kw, buffer.data());
    return buffer;
  });
  const double per_cycle = kernel.isa == Isa::scalar ? 1.0 : 16.0;
  const double cycles = static_cast<double>(grid.pixels() * shape_.taps() * channels) / per_cycle;
  const double input_bytes = static_cast<double>(grid.pixels() * channels);
  const std::shared_ptr<StepTuning> tuning = start_report(context, grid);
  const LayerChoice* wanted = tuned_choice(context, tuning.get());
  if (wanted != nullptr && wanted->kernel != kernel.name) fail_tuned(*wanted);
  const int64_t pixel_block = pixel_granule(grid, kDepthwisePixels);
  const LayerSplit split =
      wanted != nullptr && wanted->pixel_parts > 0
          ? split_into(grid, 1, channels, kLine, pixel_block, wanted->pixel_parts, wanted->channel_parts)
          : split_layer(context, grid, 1, channels, kLine, pixel_block, {cycles, 0.0, input_bytes});
  DepthwiseInt8Args base;
  base.x_row_stride = grid.x.row;
  base.x_col_stride = grid.x.col;
  base.tap_row_stride = grid.tap_row;
  base.tap_col_stride = grid.tap_col;
  base.kh = kh;
  base.kw = kw;
  base.channels = channels;
  base.w = packed->data();
  base.y_row_stride = grid.y.row;
  base.y_col_stride = grid.y.col;
  base.requantize = requant_->arguments(0);
  base.requantize.residual_row_stride = grid.residual.row;
  base.requantize.residual_col_stride = grid.residual.col;

  Step step;
  step.tasks = split.tasks();
  step.kernel = kernel.name;
  step.isa = isa_name(kernel.isa);
  step.precision = "int8";
  step.weight_bytes = packed->size();
  if (tuning != nullptr) {
    const LayerChoice choice{kernel.name};
    report_split(choice, split, tuning.get());
    if (context.tuning->lists_candidates) {
      tuning->rows.push_back({choice_text(choice), cycles});
      report_divisions(choice,
                       split_candidates(grid, 1, channels, kLine, pixel_block, cycles, context.num_threads),
                       tuning.get());
    }
  }
  step.tuning = tuning;
  const Operand x = context.inputs[0], y = context.output;
  const Operand residual = grid.has_residual ? context.inputs[4] : Operand();
  const TableEpilogue epilogue(context, grid.y);
  const std::shared_ptr<const Requant> requant = requant_;  // owns the arrays of base.requantize
  step.run = [=, &kernel](const RunContext& run, int task, int) {
    const LayerPiece p = split.piece(task);
    DepthwiseInt8Args a = base;
    a.x = run.at<const uint8_t>(x) + grid.tap_origin + p.image * grid.x.image + p.row * grid.x.row +
          p.col * grid.x.col;
    a.rows = static_cast<int>(p.rows);
    a.cols = static_cast<int>(p.cols);
    a.channel_begin = static_cast<int>(p.n_begin);
    a.channel_end = static_cast<int>(p.n_end);
    a.w = packed->data();
    a.y = run.at<char>(y) + p.image * grid.y.image + p.row * grid.y.row + p.col * grid.y.col;
    if (residual.present())
      a.requantize.residual = run.at<const uint8_t>(residual) + p.image * grid.residual.image +
                              p.row * grid.residual.row + p.col * grid.residual.col;
    a.requantize.acc_init = requant->acc_init.data();
    kernel.run(a);
    epilogue.run(a.y, p, channels);
  };
  return step;
}

}  // namespace pyruntime
