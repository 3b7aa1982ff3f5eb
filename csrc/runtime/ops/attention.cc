// attention: softmax(q k^T * multiplier + mask) v on u8 operands, head by head, without the matrices between.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/matmul_int8/matmul_int8.h"
#include "runtime/batch.h"
#include "runtime/kernel_choice.h"
#include "runtime/loop_nest.h"
#include "runtime/ops/makers.h"

namespace pyruntime {
namespace {

constexpr size_t round_up(size_t bytes) { return (bytes + 63) / 64 * 64; }

// Sizes of one call, and where a task's matrices lie in its scratch memory.
struct Sizes {
  int64_t batch, queries, keys, heads, depth, value_depth;
  int64_t depth2, keys2, keys16, values16;  // padded
  int64_t rows;                             // queries done together
  size_t k, v, q, acc, codes, scores, bytes;

  Sizes(const Shape& qs, const Shape& ks, const Shape& vs, int64_t h)
      : batch(qs[0]),
        queries(qs[1]),
        keys(ks[1]),
        heads(h),
        depth(qs[2] / h),
        value_depth(vs[2] / h),
        depth2(matmul_padded_k(depth)),
        keys2(matmul_padded_k(keys)),
        keys16(matmul_padded_n(keys)),
        values16(matmul_padded_n(value_depth)) {
    constexpr int64_t kAccumulators = 24 << 10;  // of one block of queries: 96 KiB
    rows = std::min<int64_t>(48, std::max<int64_t>(6, kAccumulators / keys16 / 6 * 6));
    rows = std::min(rows, queries);
    const auto size = [](int64_t count, size_t item) { return round_up(static_cast<size_t>(count) * item); };
    k = 0;
    v = k + size(keys16 * depth2, 2);
    q = v + size(values16 * keys2, 2);
    acc = q + size(rows * depth2, 2);
    codes = acc + size(rows * std::max(keys16, values16), 4);
    scores = codes + size(rows * keys2, 2);
    bytes = scores + size(keys, 4);
  }
};

// One head of one sequence; `first` is what `queries` and the mask count from.
struct Head {
  const uint8_t *q, *k, *v;
  ptrdiff_t q_row, k_row, v_row;
  const float* mask;  // of query 0 and key 0, or null
  ptrdiff_t mask_row, mask_column;
};

class Attention : public Operator {
 public:
  explicit Attention(const NodeInfo& info) : Operator(info), heads_(info.get_int("heads")) {
    info.expect_inputs(3, 4);
    for (int i = 0; i < 3; ++i) info.expect_dtype(info.input(i), {DType::u8});
    if (info.has_input(3)) info.expect_dtype(info.input(3), {DType::f32});
    info.expect_dtype(info.output(), {DType::u8, DType::f32});
    if (heads_ < 1) info.fail("has " + std::to_string(heads_) + " heads: expected at least 1");
    multiplier_ = finite("multiplier");
    output_multiplier_ = finite("output_multiplier");
  }

  Shape infer(const std::vector<Shape>& inputs) const override {
    const Shape &q = inputs[0], &k = inputs[1], &v = inputs[2];
    const bool ranks = q.size() == 3 && k.size() == 3 && v.size() == 3;
    if (!ranks || q[0] != k[0] || q[0] != v[0] || q[2] != k[2] || k[1] != v[1] || q[2] % heads_ != 0 ||
        v[2] % heads_ != 0)
      info_.fail("has inputs of shapes " + shape_string(q) + ", " + shape_string(k) + " and " +
                 shape_string(v) + ": expected [N, S, heads * d], [N, T, heads * d] and [N, T, heads * e]");
    if (k[1] == 0) info_.fail("has no keys: expected at least one");
    if (k[1] > kMatmulLongest || q[2] / heads_ > kMatmulLongest)
      info_.fail("has a product of more than " + std::to_string(kMatmulLongest) + " terms");
    if (info_.has_input(3)) {
      const Shape full = {q[0], heads_, q[1], k[1]};
      Shape all;
      if (!broadcast_shapes(inputs[3], full, &all) || all != full)
        info_.fail("has a mask of shape " + shape_string(inputs[3]) + ", which does not broadcast to " +
                   shape_string(full));
    }
    return {q[0], q[1], v[2]};
  }

  bool keeps_samples(const std::vector<Shape>& inputs, const std::vector<bool>& batched) const override {
    if (!batched[0] || !batched[1] || !batched[2]) return false;
    return !info_.has_input(3) || broadcasts_samples({inputs[3]}, {batched[3]}, 4);
  }

  LayoutTraits traits() const override {
    LayoutTraits t;
    t.input = t.output = Form::plain;
    t.slack_inputs = 7u;
    return t;
  }

  Step prepare(const PlanContext& context) const override {
    int count = 0;
    const MatmulInt8Kernels* rows = matmul_int8_kernels(&count);
    const MatmulInt8Kernels& kernel = strongest_row(rows, count, context.isa, "matmul_int8");
    const Operand &q = context.inputs[0], &k = context.inputs[1], &v = context.inputs[2];
    const Operand mask = context.inputs.size() > 3 ? context.inputs[3] : Operand();
    const Operand y = context.output;
    const Sizes s(q.t.shape, k.t.shape, v.t.shape, heads_);
    Strides mask_strides(4, 0);
    if (mask.present())
      mask_strides = broadcast_strides(mask.t.shape, mask.t.strides, {s.batch, s.heads, s.queries, s.keys});
    const int64_t units = s.batch * s.heads;
    const int64_t blocks = (s.queries + s.rows - 1) / s.rows;
    const int64_t parts = units >= 2 * context.num_threads
                              ? 1
                              : std::min<int64_t>(blocks, (2 * context.num_threads + units - 1) / units);

    Step step;
    step.tasks = static_cast<int>(std::min<int64_t>(units * parts, 1 << 16));
    const double cycles = static_cast<double>(units * s.queries * s.keys) *
                          (static_cast<double>(s.depth + s.value_depth) / 24 + 2);
    if (context.num_threads == 1 || tasks_for_cycles(cycles, context.num_threads) == 1) step.tasks = 1;
    step.scratch_bytes = s.bytes;
    step.kernel = kernel.name;
    step.isa = isa_name(kernel.isa);
    step.precision = "int8";
    const int tasks = step.tasks;
    step.run = [=, &kernel](const RunContext& run, int task, int thread) {
      char* scratch = run.scratch_of(thread);
      const int64_t all = units * parts;
      for (int64_t unit = all * task / tasks; unit < all * (task + 1) / tasks; ++unit) {
        const int64_t part = unit % parts, h = unit / parts % s.heads, n = unit / parts / s.heads;
        Head head;
        head.q_row = head.k_row = s.heads * s.depth;
        head.v_row = s.heads * s.value_depth;
        head.q = run.at<const uint8_t>(q) + n * s.queries * head.q_row + h * s.depth;
        head.k = run.at<const uint8_t>(k) + n * s.keys * head.k_row + h * s.depth;
        head.v = run.at<const uint8_t>(v) + n * s.keys * head.v_row + h * s.value_depth;
        head.mask =
            mask.present() ? run.at<const float>(mask) + n * mask_strides[0] + h * mask_strides[1] : nullptr;
        head.mask_row = mask_strides[2];
        head.mask_column = mask_strides[3];
        const int64_t begin = blocks * part / parts * s.rows;
        const int64_t end = std::min(s.queries, blocks * (part + 1) / parts * s.rows);
        char* out = run.at<char>(y) +
                    (n * s.queries * head.v_row + h * s.value_depth) * static_cast<int64_t>(y.t.item());
        run_head(kernel, s, head, begin, end, out, scratch);
      }
    };
    return step;
  }

 private:
  float finite(const char* name) const {
    const float v = static_cast<float>(info_.get_float(name));
    if (!std::isfinite(v)) info_.fail(std::string("has attribute '") + name + "' that is not finite");
    return v;
  }

  void run_head(const MatmulInt8Kernels& kernel, const Sizes& s, const Head& head, int64_t begin, int64_t end,
                char* out, char* scratch) const {
    int16_t* k = reinterpret_cast<int16_t*>(scratch + s.k);
    int16_t* v = reinterpret_cast<int16_t*>(scratch + s.v);
    int16_t* q = reinterpret_cast<int16_t*>(scratch + s.q);
    int16_t* codes = reinterpret_cast<int16_t*>(scratch + s.codes);
    int32_t* acc = reinterpret_cast<int32_t*>(scratch + s.acc);
    float* scores = reinterpret_cast<float*>(scratch + s.scores);
    int32_t sum[48];
    kernel.pack_columns(s.depth, s.keys, head.k, 1, head.k_row, info_.input(1).zero_point, k);
    kernel.pack_columns(s.keys, s.value_depth, head.v, head.v_row, 1, info_.input(2).zero_point, v);
    for (int64_t first = begin; first < end; first += s.rows) {
      const int64_t m = std::min(s.rows, end - first);
      kernel.pack_rows(m, s.depth, head.q + first * head.q_row, head.q_row, 1, info_.input(0).zero_point, q);
      kernel.product(m, s.keys, s.depth2, q, k, acc, s.keys16);
      const float* mask = head.mask == nullptr ? nullptr : head.mask + first * head.mask_row;
      const ExpCodes rows = {m, s.keys, acc, s.keys16, multiplier_, mask, head.mask_row, scores, codes, sum};
      if (mask == nullptr || head.mask_column != 0) {
        kernel.exp_codes(rows);
      } else {
        for (int64_t i = 0; i < m; ++i) one_value_masks(kernel, s, rows, i);
      }
      kernel.product(m, s.value_depth, s.keys2, codes, v, acc, s.values16);
      for (int64_t i = 0; i < m; ++i)
        finish(kernel, s, acc + i * s.values16, sum[i], out, (first + i) * head.v_row);
    }
  }

  // exp_codes of row i, all keys of which have one value of the mask.
  static void one_value_masks(const MatmulInt8Kernels& kernel, const Sizes& s, ExpCodes rows, int64_t i) {
    std::fill_n(rows.scores, rows.n, rows.mask[i * rows.mask_stride]);
    rows.m = 1;
    rows.acc += i * rows.acc_stride;
    rows.mask = rows.scores;
    rows.codes += i * s.keys2;
    rows.sums += i;
    kernel.exp_codes(rows);
  }

  // One row of the result; `at` is its first element.
  void finish(const MatmulInt8Kernels& kernel, const Sizes& s, const int32_t* acc, int32_t sum, char* out,
              int64_t at) const {
    const float factor = output_multiplier_ / static_cast<float>(std::max(sum, 1));
    if (info_.output().dtype == DType::f32) {
      const float infinity = std::numeric_limits<float>::infinity();
      kernel.to_f32(s.value_depth, acc, factor, 0.0f, -infinity, infinity,
                    reinterpret_cast<float*>(out) + at);
      return;
    }
    kernel.to_u8(s.value_depth, acc, factor, static_cast<float>(info_.output().zero_point), 0.0f, 255.0f,
                 reinterpret_cast<uint8_t*>(out) + at);
  }

  int64_t heads_;
  float multiplier_ = 0.0f, output_multiplier_ = 0.0f;
};

}  // namespace

std::unique_ptr<Operator> make_attention(const NodeInfo& info) { return std::make_unique<Attention>(info); }

}  // namespace pyruntime
