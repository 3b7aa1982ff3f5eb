// matmul: batched product of two computed tensors, float or u8. The right side is packed per run; float then
// runs as a dense layer, u8 by the kernels of matmul_int8.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/conv_f32/conv_f32.h"
#include "kernels/matmul_int8/matmul_int8.h"
#include "runtime/batch.h"
#include "runtime/kernel_choice.h"
#include "runtime/loop_nest.h"
#include "runtime/ops/makers.h"

namespace pyruntime {
namespace {

// Shapes as [batch..., m, k] x [batch..., k, n]; vectors get a dimension of size 1.
struct Product {
  Shape batch_a, batch_b, batch;
  int64_t m, k, n;
  bool vector_a, vector_b;
};

class Matmul : public Operator {
 public:
  using Operator::Operator;

  Shape infer(const std::vector<Shape>& inputs) const override {
    const Product p = analyse(inputs[0], inputs[1]);
    Shape out = p.batch;
    if (!p.vector_a) out.push_back(p.m);
    if (!p.vector_b) out.push_back(p.n);
    return out;
  }

  bool keeps_samples(const std::vector<Shape>& inputs, const std::vector<bool>& batched) const override {
    const size_t rank = std::max(inputs[0].size(), inputs[1].size());
    return rank > 2 && broadcasts_samples(inputs, batched, rank);
  }

  LayoutTraits traits() const override {
    LayoutTraits t;
    t.input = t.output = Form::plain;
    return t;
  }

 protected:
  Product analyse(Shape a, Shape b) const {
    Product p;
    if (a.empty() || b.empty()) info_.fail("has a scalar input: expected rank 1 or more");
    p.vector_a = a.size() == 1;
    p.vector_b = b.size() == 1;
    if (p.vector_a) a.insert(a.begin(), 1);
    if (p.vector_b) b.push_back(1);
    p.m = a[a.size() - 2];
    p.k = a.back();
    p.n = b.back();
    p.batch_a.assign(a.begin(), a.end() - 2);
    p.batch_b.assign(b.begin(), b.end() - 2);
    if (b[b.size() - 2] != p.k || !broadcast_shapes(p.batch_a, p.batch_b, &p.batch))
      info_.fail("has inputs of shapes " + shape_string(a) + " and " + shape_string(b) +
                 ", which do not multiply");
    return p;
  }

  // Which product of the batches of a and b makes product i.
  struct Batches {
    Shape batch;
    Strides a, b;
    explicit Batches(const Product& p)
        : batch(p.batch),
          a(broadcast_strides(p.batch_a, contiguous_strides(p.batch_a), p.batch)),
          b(broadcast_strides(p.batch_b, contiguous_strides(p.batch_b), p.batch)) {}
    void find(int64_t i, int64_t* index_a, int64_t* index_b) const {
      *index_a = *index_b = 0;
      for (size_t d = batch.size(); d-- > 0; i /= batch[d]) {
        *index_a += i % batch[d] * a[d];
        *index_b += i % batch[d] * b[d];
      }
    }
  };
};

class FloatMatmul : public Matmul {
 public:
  explicit FloatMatmul(const NodeInfo& info) : Matmul(info) {
    info.expect_dtype(info.input(1), {DType::f32});
    info.expect_dtype(info.output(), {DType::f32});
  }

  Step prepare(const PlanContext& context) const override {
    int count = 0;
    const ConvF32Kernel* rows = conv_f32_kernels(&count);
    const ConvF32Kernel& kernel = strongest_row(rows, count, context.isa, "conv_f32");
    const Operand a = context.inputs[0], b = context.inputs[1], y = context.output;
    const Product p = analyse(a.t.shape, b.t.shape);
    for (int64_t d : {p.m, p.k, p.n}) {
      if (d >= int64_t{1} << 31) info_.fail("has a dimension beyond 2^31");
    }
    const int64_t batches = element_count(p.batch);
    const Batches parts(p);
    const int64_t m = p.m, k = p.k, n = p.n;
    const size_t packed_bytes =
        (kernel.packed_bytes(static_cast<int>(n), 1, static_cast<int>(k)) + 63) / 64 * 64;
    const auto bias = std::make_shared<std::vector<float>>(n + 128, 0.0f);

    Step step;
    step.tasks = static_cast<int>(std::min<int64_t>(batches, 64));
    if (context.num_threads == 1) step.tasks = 1;
    step.scratch_bytes = packed_bytes;
    step.kernel = kernel.name;
    step.isa = isa_name(kernel.isa);
    step.precision = "float32";
    const int tasks = step.tasks;
    step.run = [=, &kernel](const RunContext& run, int task, int thread) {
      char* packed = run.scratch_of(thread);
      static const int32_t kNoOffset = 0;
      for (int64_t i = batches * task / tasks; i < batches * (task + 1) / tasks; ++i) {
        int64_t index_a = 0, index_b = 0;
        parts.find(i, &index_a, &index_b);
        kernel.pack_matrix(run.at<const float>(b) + index_b * k * n, static_cast<int>(n), static_cast<int>(k),
                           packed);
        ConvF32Args args;
        args.x = run.at<const float>(a) + index_a * m * k;
        args.x_col_stride = k * static_cast<ptrdiff_t>(sizeof(float));
        args.tap_offset = &kNoOffset;
        args.k = static_cast<int>(k);
        args.cols = static_cast<int>(m);
        args.w = packed;
        args.n = args.n_end = static_cast<int>(n);
        args.y = run.at<float>(y) + i * m * n;
        args.y_col_stride = n * static_cast<ptrdiff_t>(sizeof(float));
        args.bias = bias->data();
        args.lo = -std::numeric_limits<float>::infinity();
        args.hi = std::numeric_limits<float>::infinity();
        kernel.run(args);
      }
    };
    return step;
  }
};

class Int8Matmul : public Matmul {
 public:
  explicit Int8Matmul(const NodeInfo& info) : Matmul(info) {
    info.expect_dtype(info.input(1), {DType::u8});
    info.expect_dtype(info.output(), {DType::u8, DType::f32});
    const bool is_u8 = info.output().dtype == DType::u8;
    const double infinity = std::numeric_limits<double>::infinity();
    multiplier_ = static_cast<float>(info.get_float("multiplier"));
    offset_ = static_cast<float>(info.get_float("offset"));
    lo_ = static_cast<float>(info.get_float("lo", is_u8 ? 0.0 : -infinity));
    hi_ = static_cast<float>(info.get_float("hi", is_u8 ? 255.0 : infinity));
    if (!std::isfinite(multiplier_) || !std::isfinite(offset_))
      info.fail("has a multiplier or an offset that is not finite");
    for (float bound : {lo_, hi_}) {
      if (std::isnan(bound) || (is_u8 && !(bound >= 0.0f && bound <= 255.0f && bound == std::floor(bound))))
        info.fail("has the bound " + std::to_string(bound) + ": expected a whole number 0..255");
    }
  }

  LayoutTraits traits() const override {
    LayoutTraits t = Matmul::traits();
    t.slack_inputs = 3u;
    return t;
  }

  Step prepare(const PlanContext& context) const override {
    int count = 0;
    const MatmulInt8Kernels* rows = matmul_int8_kernels(&count);
    const MatmulInt8Kernels& kernel = strongest_row(rows, count, context.isa, "matmul_int8");
    const Operand a = context.inputs[0], b = context.inputs[1], y = context.output;
    const Product p = analyse(a.t.shape, b.t.shape);
    if (p.k > kMatmulLongest)
      info_.fail("sums " + std::to_string(p.k) + " products: expected at most " +
                 std::to_string(kMatmulLongest));
    const Batches batches(p);
    const int64_t units = element_count(p.batch), k2 = matmul_padded_k(p.k), n16 = matmul_padded_n(p.n);
    const double cycles = static_cast<double>(units * p.m * n16) * (static_cast<double>(p.k) / 24 + 1);
    const int want = tasks_for_cycles(cycles, context.num_threads);
    // Columns are split where there are fewer products than tasks: a panel is packed by one task alone.
    const int64_t panels = n16 / kMatmulPanel;
    const int64_t parts = std::min<int64_t>(panels, (want + units - 1) / units);
    const int64_t part_n = (panels + parts - 1) / parts * kMatmulPanel;
    const int64_t block = std::min<int64_t>(p.m, kRows);
    const auto bytes = [](int64_t n, size_t item) { return (static_cast<size_t>(n) * item + 63) / 64 * 64; };
    const size_t at_a = bytes(part_n * k2, 2), at_c = at_a + bytes(block * k2, 2);

    Step step;
    step.tasks = static_cast<int>(std::min<int64_t>(want, units * parts));
    step.scratch_bytes = at_c + bytes(block * part_n, 4);
    step.kernel = kernel.name;
    step.isa = isa_name(kernel.isa);
    step.precision = "int8";
    const int tasks = step.tasks;
    const int32_t zero_a = info_.input(0).zero_point, zero_b = info_.input(1).zero_point;
    step.run = [=, &kernel](const RunContext& run, int task, int thread) {
      char* scratch = run.scratch_of(thread);
      int16_t* packed_b = reinterpret_cast<int16_t*>(scratch);
      int16_t* packed_a = reinterpret_cast<int16_t*>(scratch + at_a);
      int32_t* c = reinterpret_cast<int32_t*>(scratch + at_c);
      const int64_t all = units * parts;
      for (int64_t unit = all * task / tasks; unit < all * (task + 1) / tasks; ++unit) {
        int64_t index_a = 0, index_b = 0;
        batches.find(unit / parts, &index_a, &index_b);
        const int64_t first = unit % parts * part_n, n = std::min(part_n, p.n - first);
        if (n <= 0) continue;
        const uint8_t* left = run.at<const uint8_t>(a) + index_a * p.m * p.k;
        const uint8_t* right = run.at<const uint8_t>(b) + index_b * p.k * p.n + first;
        kernel.pack_columns(p.k, n, right, p.n, 1, zero_b, packed_b);
        for (int64_t i = 0; i < p.m; i += block) {
          const int64_t m = std::min(block, p.m - i);
          kernel.pack_rows(m, p.k, left + i * p.k, p.k, 1, zero_a, packed_a);
          kernel.product(m, n, k2, packed_a, packed_b, c, part_n);
          for (int64_t r = 0; r < m; ++r)
            finish(kernel, run, y, n, c + r * part_n, (unit / parts * p.m + i + r) * p.n + first);
        }
      }
    };
    return step;
  }

 private:
  static constexpr int64_t kRows = 48;  // of a packed and multiplied at a time

  void finish(const MatmulInt8Kernels& kernel, const RunContext& run, const Operand& y, int64_t n,
              const int32_t* acc, int64_t at) const {
    if (y.t.dtype == DType::f32)
      kernel.to_f32(n, acc, multiplier_, offset_, lo_, hi_, run.at<float>(y) + at);
    else
      kernel.to_u8(n, acc, multiplier_, offset_, lo_, hi_, run.at<uint8_t>(y) + at);
  }

  float multiplier_, offset_, lo_, hi_;
};

}  // namespace

std::unique_ptr<Operator> make_matmul(const NodeInfo& info) {
  info.expect_inputs(2, 2);
  info.expect_dtype(info.input(0), {DType::f32, DType::u8});
  if (info.input(0).dtype == DType::u8) return std::make_unique<Int8Matmul>(info);
  return std::make_unique<FloatMatmul>(info);
}

}  // namespace pyruntime
