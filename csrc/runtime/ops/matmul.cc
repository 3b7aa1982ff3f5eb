// matmul: batched float product of two computed tensors. The right side is packed per run, then a dense layer
// runs.
#include <algorithm>
#include <limits>

#include "kernels/conv_f32/conv_f32.h"
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
  explicit Matmul(const NodeInfo& info) : Operator(info) {
    info.expect_inputs(2, 2);
    info.expect_dtype(info.input(0), {DType::f32});
    info.expect_dtype(info.input(1), {DType::f32});
    info.expect_dtype(info.output(), {DType::f32});
  }

  Shape infer(const std::vector<Shape>& inputs) const override {
    const Product p = analyse(inputs[0], inputs[1]);
    Shape out = p.batch;
    if (!p.vector_a) out.push_back(p.m);
    if (!p.vector_b) out.push_back(p.n);
    return out;
  }

  LayoutTraits traits() const override {
    LayoutTraits t;
    t.input = t.output = Form::plain;
    return t;
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
    const Strides batch_y = contiguous_strides(p.batch);
    const Strides batch_a = broadcast_strides(p.batch_a, contiguous_strides(p.batch_a), p.batch);
    const Strides batch_b = broadcast_strides(p.batch_b, contiguous_strides(p.batch_b), p.batch);
    const int64_t m = p.m, k = p.k, n = p.n;
    const size_t packed_bytes =
        (kernel.packed_bytes(static_cast<int>(n), 1, static_cast<int>(k)) + 63) / 64 * 64;
    const size_t transposed_bytes = (static_cast<size_t>(n * k) * sizeof(float) + 63) / 64 * 64;
    const auto bias = std::make_shared<std::vector<float>>(n + 128, 0.0f);
    const Shape batch = p.batch;

    Step step;
    step.tasks = static_cast<int>(std::min<int64_t>(batches, 64));
    if (context.num_threads == 1) step.tasks = 1;
    step.scratch_bytes = packed_bytes + transposed_bytes;
    step.kernel = kernel.name;
    step.isa = isa_name(kernel.isa);
    step.precision = "float32";
    const int tasks = step.tasks;
    step.run = [=, &kernel](const RunContext& run, int task, int thread) {
      char* packed = run.scratch_of(thread);
      float* transposed = reinterpret_cast<float*>(packed + packed_bytes);
      static const int32_t kNoOffset = 0;
      for (int64_t i = batches * task / tasks; i < batches * (task + 1) / tasks; ++i) {
        int64_t rest = i, index_a = 0, index_b = 0;
        for (size_t d = batch.size(); d-- > 0;) {
          index_a += rest % batch[d] * batch_a[d];
          index_b += rest % batch[d] * batch_b[d];
          rest /= batch[d];
        }
        transpose(run.at<const float>(b) + index_b * k * n, k, n, transposed);
        kernel.pack(transposed, static_cast<int>(n), 1, static_cast<int>(k), packed);
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

 private:
  static void transpose(const float* b, int64_t k, int64_t n, float* out) {
    constexpr int64_t kTile = 16;
    for (int64_t i0 = 0; i0 < k; i0 += kTile) {
      for (int64_t j0 = 0; j0 < n; j0 += kTile) {
        for (int64_t j = j0; j < std::min(n, j0 + kTile); ++j) {
          for (int64_t i = i0; i < std::min(k, i0 + kTile); ++i) out[j * k + i] = b[i * n + j];
        }
      }
    }
  }

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
};

}  // namespace

std::unique_ptr<Operator> make_matmul(const NodeInfo& info) { return std::make_unique<Matmul>(info); }

}  // namespace pyruntime
