// Steps of operators that map elements one to one: y[i] = f(x[i]) and y[i] = f(a[i], b[i]), over any strides.
#pragma once

#include <algorithm>
#include <utility>

#include "runtime/kernel_choice.h"
#include "runtime/loop_nest.h"
#include "runtime/operator.h"

namespace pyruntime {

constexpr int64_t kGather = 1024;  // elements copied at a time where an input is not contiguous along the run

// f(n, const X* x, Y* y) on contiguous runs.
template <typename X, typename Y, typename F>
Step map_step(const PlanContext& context, const Operand& x, double cycles_per_element, F f) {
  const Operand y = context.output;
  const LoopNest nest =
      make_nest(y.t.shape, {y.t.strides, broadcast_strides(x.t.shape, x.t.strides, y.t.shape)});
  const NestSplit split = split_nest(
      nest, tasks_for_cycles(cycles_per_element * static_cast<double>(y.t.count()), context.num_threads));
  Step step;
  step.tasks = split.tasks;
  step.run = [=](const RunContext& run, int task, int) {
    const X* source = run.at<const X>(x);
    Y* target = run.at<Y>(y);
    const int64_t stride = nest.inner_stride(1);
    for_each_run(nest, split, task, [&](const std::array<int64_t, kMaxOperands>& at, int64_t n) {
      if (stride == 1 || n == 1) {
        f(static_cast<size_t>(n), source + at[1], target + at[0]);
        return;
      }
      X buffer[kGather];
      for (int64_t i = 0; i < n; i += kGather) {
        const int64_t m = std::min(kGather, n - i);
        f(static_cast<size_t>(m), as_run(source + at[1] + i * stride, stride, m, buffer), target + at[0] + i);
      }
    });
  };
  return step;
}

// Short runs of b that repeat (a value per channel, many pixels) become one long run over a repeated copy of
// b. Returns the period, or 0 if the nest stays as it is.
inline int64_t merge_repeats(LoopNest* nest) {
  const int rank = nest->rank();
  if (rank < 2) return 0;
  const int64_t period = nest->inner();
  const bool repeats = period > 1 && period <= kGather / 2 && nest->inner_stride(2) == 1 &&
                       nest->stride[2][rank - 2] == 0 && nest->stride[0][rank - 2] == period &&
                       nest->stride[1][rank - 2] == period && nest->inner_stride(1) == 1;
  if (!repeats) return 0;
  nest->size.pop_back();
  nest->size.back() *= period;
  for (int o = 0; o < nest->operands; ++o) {
    nest->stride[o].pop_back();
    nest->stride[o].back() = o == 2 ? 0 : 1;  // b's offset stays at the start of its values
  }
  return period;
}

// f(n, const T* a, const T* b, int b_step, T* y) on contiguous runs; b_step 0 means that b is one value.
template <typename T, typename F>
Step zip_step(const PlanContext& context, const Operand& a, const Operand& b, double cycles_per_element,
              F f) {
  const Operand y = context.output;
  LoopNest nest = make_nest(y.t.shape, {y.t.strides, broadcast_strides(a.t.shape, a.t.strides, y.t.shape),
                                        broadcast_strides(b.t.shape, b.t.strides, y.t.shape)});
  const int64_t period = merge_repeats(&nest);
  const int want =
      tasks_for_cycles(cycles_per_element * static_cast<double>(y.t.count()), context.num_threads);
  const NestSplit split = split_nest(nest, want, period > 0 ? period : 64);
  Step step;
  step.tasks = split.tasks;
  step.run = [=](const RunContext& run, int task, int) {
    const T* left = run.at<const T>(a);
    const T* right = run.at<const T>(b);
    T* target = run.at<T>(y);
    const int64_t sa = nest.inner_stride(1), sb = nest.inner_stride(2);
    const int b_step = sb == 0 ? 0 : 1;
    T buffer_a[kGather], buffer_b[kGather];
    for_each_run(nest, split, task, [&](const std::array<int64_t, kMaxOperands>& at, int64_t n) {
      if (period > 0) {
        // Runs begin at multiples of the period.
        const int64_t whole = std::min(n, kGather / period * period);
        for (int64_t i = 0; i < whole; i += period) std::copy_n(right + at[2], period, buffer_b + i);
        for (int64_t i = 0; i < n; i += whole)
          f(static_cast<size_t>(std::min(whole, n - i)), left + at[1] + i, buffer_b, 1, target + at[0] + i);
        return;
      }
      if ((sa == 1 && (sb == 1 || sb == 0)) || n == 1) {
        f(static_cast<size_t>(n), left + at[1], right + at[2], b_step, target + at[0]);
        return;
      }
      for (int64_t i = 0; i < n; i += kGather) {
        const int64_t m = std::min(kGather, n - i);
        const T* run_a = as_run(left + at[1] + i * sa, sa, m, buffer_a);
        const T* run_b = b_step ? as_run(right + at[2] + i * sb, sb, m, buffer_b) : right + at[2];
        f(static_cast<size_t>(m), run_a, run_b, b_step, target + at[0] + i);
      }
    });
  };
  return step;
}

}  // namespace pyruntime
