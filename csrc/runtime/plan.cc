#include "runtime/plan.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

#include "runtime/plan_builder.h"
#include "runtime/strided_copy.h"

namespace pyruntime {
namespace {

size_t physical_memory() {
#if defined(_SC_PHYS_PAGES)
  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGE_SIZE);
  if (pages > 0 && page > 0) return static_cast<size_t>(pages) * static_cast<size_t>(page);
#endif
  return SIZE_MAX / 2;
}

int64_t sample_bytes(const Shape& shape, DType dtype) {
  if (shape.empty()) return 0;
  return element_count(Shape(shape.begin() + 1, shape.end())) * static_cast<int64_t>(dtype_size(dtype));
}

}  // namespace

std::vector<Shape> infer_shapes(const Program& program, const Operators& operators,
                                const std::vector<Shape>& input_shapes) {
  std::vector<Shape> shapes(program.values.size());
  for (size_t i = 0; i < program.inputs.size(); ++i) shapes[program.inputs[i]] = input_shapes[i];
  for (size_t v = 0; v < program.values.size(); ++v) {
    if (program.values[v].constant) shapes[v] = program.values[v].shape;
  }
  for (size_t i = 0; i < program.nodes.size(); ++i) {
    const Node& node = program.nodes[i];
    std::vector<Shape> inputs;
    for (int v : node.inputs) inputs.push_back(v < 0 ? Shape() : shapes[v]);
    Shape& out = shapes[node.output];
    try {
      out = operators[i]->infer(inputs);
      const size_t bytes =
          static_cast<size_t>(element_count(out)) * dtype_size(program.values[node.output].dtype);
      if (bytes > physical_memory())
        throw Error("an output of " + std::to_string(bytes) + " bytes exceeds the memory");
    } catch (const Error& error) {
      const std::string message = error.what();
      if (message.rfind("node '", 0) == 0) throw;
      throw Error("node '" + node.name + "' (" + node.op + "): " + message);
    }
    if (out.size() > 16)
      throw Error("node '" + node.name + "' (" + node.op + ") makes a tensor of rank " +
                  std::to_string(out.size()) + ": expected at most 16");
  }
  return shapes;
}

Plan::Plan(const Program& program, const Operators& operators, const std::vector<Shape>& input_shapes,
           const PlanOptions& options, WeightCache* cache, ThreadPool* pool)
    : num_threads_(options.num_threads) {
  PlanBuilder(*this, program, operators, options, cache, pool).build(input_shapes);
  for (size_t i = 0; i < input_shapes.size(); ++i)
    input_sample_bytes_.push_back(sample_bytes(input_shapes[i], program.values[program.inputs[i]].dtype));
  for (size_t i = 0; i < output_shapes_.size(); ++i)
    output_sample_bytes_.push_back(sample_bytes(output_shapes_[i], program.values[program.outputs[i]].dtype));
  const auto is_shared = [](const PlanStep& step) { return step.step.tasks > 1; };
  wakes_ = std::any_of(steps_.begin(), steps_.end(), is_shared) && !is_shared(steps_.front());
  const size_t bytes = arena_bytes_ + scratch_stride_ * static_cast<size_t>(num_threads_);
  if (bytes > physical_memory())
    throw Error("a run needs " + std::to_string(bytes) + " bytes of working memory, more than there is");
}

std::unique_ptr<Workspace> Plan::take_workspace() const {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!free_.empty()) {
      std::unique_ptr<Workspace> w = std::move(free_.back());
      free_.pop_back();
      return w;
    }
  }
  auto w = std::make_unique<Workspace>();
  w->arena = AlignedBuffer(arena_bytes_);
  w->scratch = AlignedBuffer(scratch_stride_ * static_cast<size_t>(num_threads_));
  std::memset(w->arena.data(), 0, w->arena.size());  // touches the pages before the first run is timed
  std::memset(w->scratch.data(), 0, w->scratch.size());
  for (const BufferPlan& b : buffers_) {
    char* data = nullptr;
    if (b.kind == BufferPlan::Kind::arena) data = w->arena.data() + b.offset;
    if (b.kind == BufferPlan::Kind::constant) data = static_cast<char*>(const_cast<void*>(b.data));
    w->buffers.push_back(data);
  }
  w->context.buffers = w->buffers.data();
  w->context.scratch = w->scratch.data();
  w->context.scratch_stride = scratch_stride_;
  w->context.failure = &w->failure;
  for (const PlanStep& step : steps_) w->steps.push_back({&step, &w->context});
  return w;
}

int StepTasks::count() const { return std::max(step->step.tasks, step->halo.present() ? 1 : 0); }

void StepTasks::operator()(int task, int thread) const {
  if (task < step->step.tasks) step->step.run(*context, task, thread);
  if (task == 0 && step->halo.present())
    fill_halo(step->halo.t, context->at<char>(step->halo), step->halo_byte);
}

void Plan::run(const void* const* inputs, void* const* outputs, int64_t first, ThreadPool& pool,
               int64_t* step_ns) const {
  std::unique_ptr<Workspace> w = take_workspace();
  for (size_t i = 0; i < buffers_.size(); ++i) {
    const BufferPlan& b = buffers_[i];
    if (b.kind == BufferPlan::Kind::input)
      w->buffers[i] =
          static_cast<char*>(const_cast<void*>(inputs[b.index])) + first * input_sample_bytes_[b.index];
    if (b.kind == BufferPlan::Kind::output)
      w->buffers[i] = static_cast<char*>(outputs[b.index]) + first * output_sample_bytes_[b.index];
  }
  if (wakes_) pool.wake();
  {
    const FlushSubnormals flush;
    using Clock = std::chrono::steady_clock;
    Clock::time_point before = step_ns ? Clock::now() : Clock::time_point();
    for (size_t i = 0; i < steps_.size(); ++i) {
      pool.parallel_for(w->steps[i].count(), w->steps[i]);
      if (step_ns == nullptr) continue;
      const Clock::time_point now = Clock::now();
      step_ns[i] = std::chrono::duration_cast<std::chrono::nanoseconds>(now - before).count();
      before = now;
    }
  }
  const std::string* failure = w->failure.load(std::memory_order_relaxed);
  if (failure != nullptr) w->failure.store(nullptr, std::memory_order_relaxed);
  std::lock_guard<std::mutex> lock(mutex_);
  free_.push_back(std::move(w));
  if (failure != nullptr) throw Error(*failure);
}

}  // namespace pyruntime
