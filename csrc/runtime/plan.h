// Everything decided for one set of input shapes: layouts, kernels, memory, steps. Immutable once built.
#pragma once

#include <atomic>
#include <mutex>

#include "base/thread_pool.h"
#include "runtime/layout.h"

namespace pyruntime {

struct PlanOptions {
  Isa isa = Isa::scalar;
  int num_threads = 1;
  std::optional<WeightFormat> weight_format;
  std::shared_ptr<const Tuning> tuning;
};

struct PlanStep {
  Step step;
  int node = -1;      // -1: a copy between layouts
  std::string value;  // what a copy copies
  Operand halo;       // the tensor whose halo the step fills; absent: none
  uint8_t halo_byte = 0;
};

// Where the memory of an operand comes from.
struct BufferPlan {
  enum class Kind { arena, constant, input, output } kind = Kind::arena;
  int index = 0;               // input, output
  const void* data = nullptr;  // constant
  size_t bytes = 0;            // arena
  int first = 0, last = 0;     // arena: steps
  size_t offset = 0;           // arena
};

// The tasks of a step in a workspace. Task 0 fills the halo, too; a step may have nothing else to do.
struct StepTasks {
  const PlanStep* step;
  const RunContext* context;
  int count() const;
  void operator()(int task, int thread) const;
};

// Memory of one run: arena, scratch and the table of buffers. What workers read of it does not change from
// run to run, but for the buffers of inputs and outputs: it stays in their caches.
struct Workspace {
  AlignedBuffer arena, scratch;
  std::vector<char*> buffers;
  std::atomic<const std::string*> failure{nullptr};
  RunContext context;
  std::vector<StepTasks> steps;
};

class Plan {
 public:
  Plan(const Program& program, const Operators& operators, const std::vector<Shape>& input_shapes,
       const PlanOptions& options, WeightCache* cache, ThreadPool* pool);

  const std::vector<Shape>& output_shapes() const { return output_shapes_; }
  const std::vector<PlanStep>& steps() const { return steps_; }
  size_t arena_bytes() const { return arena_bytes_; }

  // Reads inputs, writes outputs (C order), all from sample `first` on. `step_ns`, if not null, receives the
  // duration of every step.
  void run(const void* const* inputs, void* const* outputs, int64_t first, ThreadPool& pool,
           int64_t* step_ns) const;

 private:
  friend class PlanBuilder;
  std::unique_ptr<Workspace> take_workspace() const;

  std::vector<Shape> output_shapes_;
  std::vector<int64_t> input_sample_bytes_, output_sample_bytes_;
  std::vector<PlanStep> steps_;
  std::vector<BufferPlan> buffers_;
  std::vector<AlignedBuffer> constants_;  // constants kept in another layout
  size_t arena_bytes_ = 0, scratch_stride_ = 0;
  int num_threads_ = 1;
  bool wakes_ = false;  // the first step is for one thread, a later one for several

  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> free_;
};

// Shapes of all values for these input shapes. Throws Error naming the node.
std::vector<Shape> infer_shapes(const Program& program, const Operators& operators,
                                const std::vector<Shape>& input_shapes);

}  // namespace pyruntime
