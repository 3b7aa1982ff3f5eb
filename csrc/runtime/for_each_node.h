// Work on the nodes of a program that is independent from node to node: making operators, packing weights.
#pragma once

#include <algorithm>
#include <atomic>
#include <exception>
#include <numeric>

#include "base/thread_pool.h"
#include "runtime/program.h"

namespace pyruntime {

// Calls f(node) for every node on the threads of the pool, those with the most weights first. What the first
// node in order throws is thrown on.
template <typename F>
void for_each_node(const Program& program, ThreadPool& pool, F f) {
  const int count = static_cast<int>(program.nodes.size());
  std::vector<int64_t> weights(count, 0);
  for (int i = 0; i < count; ++i) {
    for (int v : program.nodes[i].inputs) {
      if (v >= 0 && program.values[v].constant) weights[i] += element_count(program.values[v].shape);
    }
  }
  std::vector<int> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return weights[a] > weights[b]; });
  std::vector<std::exception_ptr> failures(count);
  std::atomic<int> next{0};
  const FlushSubnormals flush;  // as workers do: what is packed depends on no thread
  pool.parallel_for(std::min(count, pool.num_threads()), [&](int, int) {
    for (int i; (i = next.fetch_add(1)) < count;) {
      try {
        f(order[i]);
      } catch (...) {
        failures[order[i]] = std::current_exception();
      }
    }
  });
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

}  // namespace pyruntime
