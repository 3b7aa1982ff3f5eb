#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/conv_f32/conv_f32.h"
#include "kernels/depthwise_f32/depthwise_f32.h"
#include "runtime/kernel_choice.h"
#include "runtime/layer.h"

namespace pyruntime {
namespace {

constexpr int64_t kPixelBlock = 6;        // small, so that threads get as many; tiles of a task are alike
constexpr int64_t kDepthwisePixels = 14;  // whole tiles of 7 pixels

// Estimated products per cycle of one core.
double macs_per_cycle(Isa isa) { return isa == Isa::scalar ? 1.0 : isa == Isa::avx2 ? 12.0 : 24.0; }

}  // namespace

F32Layer::F32Layer(const NodeInfo& info, const LayerShape& shape) : info_(info), shape_(shape) {
  info.expect_dtype(info.output(), {DType::f32});
  info.expect_dtype(info.constant(1), {DType::f32});
  auto bias = std::make_shared<std::vector<float>>(shape.n + 128, 0.0f);
  if (info.has_input(2)) {
    const Value& v = info.constant(2);
    info.expect_dtype(v, {DType::f32});
    if (v.shape != Shape{shape.n})
      info.fail("has '" + v.name + "' of shape " + shape_string(v.shape) + ": expected " +
                shape_string({shape.n}));
    const float* data = static_cast<const float*>(v.data);
    std::transform(data, data + shape.n, bias->begin(), flush_subnormal);
  }
  bias_ = std::move(bias);
  if (info.has_input(3)) info.expect_dtype(info.input(3), {DType::f32});
  const double infinity = std::numeric_limits<double>::infinity();
  lo_ = static_cast<float>(info.get_float("lo", -infinity));
  hi_ = static_cast<float>(info.get_float("hi", infinity));
  if (std::isnan(lo_) || std::isnan(hi_)) info.fail("has a clamp bound that is NaN");
}

Step F32Layer::prepare(const PlanContext& context, LayerGrid grid) const {
  grid.collapse();
  return shape_.depthwise() ? prepare_depthwise(context, grid) : prepare_groups(context, grid);
}

Step F32Layer::prepare_groups(const PlanContext& context, const LayerGrid& grid) const {
  int count = 0;
  const ConvF32Kernel* rows = conv_f32_kernels(&count);
  const ConvF32Kernel& kernel = strongest_row(rows, count, context.isa, "conv_f32");
  const int64_t taps = shape_.taps(), k = shape_.k, n = shape_.group_n(), groups = shape_.groups;
  // Folding the taps of a row into one keeps the order (kh, kw, c) of the sum.
  LayerShape folded = shape_;
  if (taps_fold(shape_, grid, sizeof(float))) {
    folded.k *= folded.kw;
    folded.kw = 1;
  }
  const int packed_taps = static_cast<int>(folded.taps()), packed_k = static_cast<int>(folded.k);
  const size_t group_bytes = (kernel.packed_bytes(static_cast<int>(n), packed_taps, packed_k) + 63) / 64 * 64;
  auto packed = context.cache->get({info_.index(), &kernel, packed_k}, [&] {
    AlignedBuffer buffer = context.cache->allocate(group_bytes * groups);
    const float* w = static_cast<const float*>(info_.constant(1).data);
    std::vector<float> matrix(n * taps * k);
    for (int64_t g = 0; g < groups; ++g) {
      for (int64_t o = 0; o < n; ++o) {
        for (int64_t c = 0; c < k; ++c) {
          for (int64_t t = 0; t < taps; ++t)
            matrix[(o * taps + t) * k + c] = flush_subnormal(w[((g * n + o) * k + c) * taps + t]);
        }
      }
      kernel.pack(matrix.data(), static_cast<int>(n), packed_taps, packed_k, buffer.data() + g * group_bytes);
    }
    return buffer;
  });
  const int64_t pixels = grid.pixels();
  const double cycles =
      static_cast<double>(pixels) * static_cast<double>(n * taps * k * groups) / macs_per_cycle(kernel.isa);
  const double input_bytes = static_cast<double>(pixels) * static_cast<double>(k * groups * 4);
  const LayerSplit split = split_layer(
      context, grid, groups, n, kernel.n_block, kPixelBlock,
      {cycles, static_cast<double>(packed->size()), input_bytes, packed->size() > kConvF32WeightsInL2});
  const std::vector<int32_t> taps_table = tap_offsets(folded, grid);
  ConvF32Args base;
  base.x_row_stride = grid.x.row;
  base.x_col_stride = grid.x.col;
  base.taps = packed_taps;
  base.k = packed_k;
  base.n = static_cast<int>(n);
  base.y_row_stride = grid.y.row;
  base.y_col_stride = grid.y.col;
  base.residual_row_stride = grid.residual.row;
  base.residual_col_stride = grid.residual.col;
  base.lo = lo_;
  base.hi = hi_;

  Step step;
  step.tasks = split.tasks();
  step.kernel = kernel.name;
  step.isa = isa_name(kernel.isa);
  step.precision = "float32";
  step.weight_bytes = packed->size();
  const Operand x = context.inputs[0], y = context.output;
  const Operand residual = grid.has_residual ? context.inputs[3] : Operand();
  const auto bias = bias_;
  step.run = [=, &kernel](const RunContext& run, int task, int) {
    const LayerPiece p = split.piece(task);
    ConvF32Args a = base;
    a.x = reinterpret_cast<const float*>(run.at<const char>(x) + p.image * grid.x.image + p.row * grid.x.row +
                                         p.col * grid.x.col) +
          p.group * k;
    a.tap_offset = taps_table.data();
    a.rows = static_cast<int>(p.rows);
    a.cols = static_cast<int>(p.cols);
    a.w = packed->data() + p.group * group_bytes;
    a.n_begin = static_cast<int>(p.n_begin);
    a.n_end = static_cast<int>(p.n_end);
    a.y = reinterpret_cast<float*>(run.at<char>(y) + p.image * grid.y.image + p.row * grid.y.row +
                                   p.col * grid.y.col) +
          p.group * n;
    a.bias = bias->data() + p.group * n;
    if (residual.present())
      a.residual =
          reinterpret_cast<const float*>(run.at<const char>(residual) + p.image * grid.residual.image +
                                         p.row * grid.residual.row + p.col * grid.residual.col) +
          p.group * n;
    kernel.run(a);
  };
  return step;
}

namespace {

// y = clamp(y + r): the depthwise kernels have no residual of their own.
void add_residual(const DepthwiseF32Args& a, const char* r, const GridStrides& strides, float lo, float hi) {
  for (int row = 0; row < a.rows; ++row) {
    for (int col = 0; col < a.cols; ++col) {
      float* y = reinterpret_cast<float*>(reinterpret_cast<char*>(a.y) + row * a.y_row_stride +
                                          col * a.y_col_stride);
      const float* b = reinterpret_cast<const float*>(r + row * strides.row + col * strides.col);
      for (int c = a.channel_begin; c < a.channel_end; ++c) {
        float v = y[c] + b[c];
        v = v < lo ? lo : v;
        y[c] = v > hi ? hi : v;
      }
    }
  }
}

}  // namespace

Step F32Layer::prepare_depthwise(const PlanContext& context, const LayerGrid& grid) const {
  int count = 0;
  const DepthwiseF32Kernel* rows = depthwise_f32_kernels(&count);
  const DepthwiseF32Kernel& kernel = strongest_row(rows, count, context.isa, "depthwise_f32");
  const int64_t taps = shape_.taps(), channels = shape_.n;
  auto packed = context.cache->get({info_.index(), &kernel, 0}, [&] {
    AlignedBuffer buffer = context.cache->allocate((taps * channels + 64) * sizeof(float));
    const float* w = static_cast<const float*>(info_.constant(1).data);
    float* out = reinterpret_cast<float*>(buffer.data());
    for (int64_t t = 0; t < taps; ++t) {
      for (int64_t c = 0; c < channels; ++c) out[t * channels + c] = flush_subnormal(w[c * taps + t]);
    }
    std::fill_n(out + taps * channels, 64, 0.0f);
    return buffer;
  });
  const double cycles =
      static_cast<double>(grid.pixels() * taps * channels) / (macs_per_cycle(kernel.isa) / 2);
  const double input_bytes = static_cast<double>(grid.pixels() * channels * 4);
  const LayerSplit split =
      split_layer(context, grid, 1, channels, 64, kDepthwisePixels, {cycles, 0.0, input_bytes});
  DepthwiseF32Args base;
  base.x_row_stride = grid.x.row;
  base.x_col_stride = grid.x.col;
  base.tap_row_stride = grid.tap_row;
  base.tap_col_stride = grid.tap_col;
  base.kh = static_cast<int>(shape_.kh);
  base.kw = static_cast<int>(shape_.kw);
  base.channels = static_cast<int>(channels);
  base.y_row_stride = grid.y.row;
  base.y_col_stride = grid.y.col;
  const float infinity = std::numeric_limits<float>::infinity();
  base.lo = grid.has_residual ? -infinity : lo_;
  base.hi = grid.has_residual ? infinity : hi_;

  Step step;
  step.tasks = split.tasks();
  step.kernel = kernel.name;
  step.isa = isa_name(kernel.isa);
  step.precision = "float32";
  step.weight_bytes = packed->size();
  const Operand x = context.inputs[0], y = context.output;
  const Operand residual = grid.has_residual ? context.inputs[3] : Operand();
  const auto bias = bias_;
  const float lo = lo_, hi = hi_;
  step.run = [=, &kernel](const RunContext& run, int task, int) {
    const LayerPiece p = split.piece(task);
    DepthwiseF32Args a = base;
    a.x = reinterpret_cast<const float*>(run.at<const char>(x) + grid.tap_origin + p.image * grid.x.image +
                                         p.row * grid.x.row + p.col * grid.x.col);
    a.rows = static_cast<int>(p.rows);
    a.cols = static_cast<int>(p.cols);
    a.channel_begin = static_cast<int>(p.n_begin);
    a.channel_end = static_cast<int>(p.n_end);
    a.w = reinterpret_cast<const float*>(packed->data());
    a.y = reinterpret_cast<float*>(run.at<char>(y) + p.image * grid.y.image + p.row * grid.y.row +
                                   p.col * grid.y.col);
    a.bias = bias->data();
    kernel.run(a);
    if (residual.present())
      add_residual(a,
                   run.at<const char>(residual) + p.image * grid.residual.image + p.row * grid.residual.row +
                       p.col * grid.residual.col,
                   grid.residual, lo, hi);
  };
  return step;
}

}  // namespace pyruntime
