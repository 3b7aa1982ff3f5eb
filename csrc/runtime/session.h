// A program ready to run: operators, packed weights, plans per input shapes. Immutable to its users; `run` is
// re-entrant.
#pragma once

#include <list>
#include <mutex>

#include "runtime/plan.h"

namespace pyruntime {

struct SessionOptions {
  std::string isa;      // cap; empty: environment PYRUNTIME_ISA, else the strongest usable
  int num_threads = 0;  // 0: every CPU this process may use
  bool profiling = false;
  std::string weight_format =
      "auto";  // auto, dense, winograd, int4, block4, bitmask: which conv_int8 rows may run
  std::shared_ptr<const Tuning> tuning;  // null: costs alone choose
};

struct KernelReport {
  std::string node, op, kernel, isa, precision;
  size_t bytes = 0;    // packed weights
  bool tuned = false;  // chosen by the Tuning of the session
};

// An integer layer of a session with a Tuning.
struct TuningReport {
  std::string node;
  std::shared_ptr<const StepTuning> layer;
};

struct ProfileReport {
  std::string node, op, kernel;
  int64_t calls = 0, nanoseconds = 0;  // summed over the runs
};

// The plans of a run: of the whole batch, or of its slices, one after the other.
struct RunPlan {
  struct Slice {
    std::shared_ptr<const Plan> plan;
    int64_t first;  // sample
  };
  std::vector<Slice> slices;
  std::vector<Shape> output_shapes;
};

class Session {
 public:
  Session(Program program, const SessionOptions& options);

  const Program& program() const { return *program_; }
  Isa isa() const { return plan_options_.isa; }
  int num_threads() const { return pool_->num_threads(); }
  bool profiling() const { return profiling_; }

  // The plans for these input shapes, made or reused. Throws Error for shapes that do not fit.
  std::shared_ptr<const RunPlan> plan_for(const std::vector<Shape>& input_shapes);
  // What these shapes had before; null if there is nothing, or while another thread is planning.
  std::shared_ptr<const RunPlan> find_plan(const std::vector<Shape>& input_shapes);
  void run(const RunPlan& run, const void* const* inputs, void* const* outputs);

  std::vector<KernelReport> kernels() const;   // of the newest plan
  std::vector<TuningReport> tuning() const;    // of the newest plan
  std::vector<ProfileReport> profile() const;  // rows sum to the wall time of all runs

 private:
  std::shared_ptr<const RunPlan> find_plan_locked(const std::vector<Shape>& input_shapes);
  // One plan for all of the batch.
  std::shared_ptr<const RunPlan> whole_plan(const std::vector<Shape>& input_shapes);
  void keep(const std::vector<Shape>& input_shapes, std::shared_ptr<const RunPlan> run);
  void check_shapes(const std::vector<Shape>& input_shapes) const;
  void plan_ahead();
  void record(const Plan& plan, const std::vector<int64_t>& step_ns, int64_t wall_ns);

  std::unique_ptr<const Program> program_;
  Operators operators_;
  PlanOptions plan_options_;
  bool profiling_;
  std::shared_ptr<ThreadPool> pool_;
  WeightCache cache_;

  struct Entry {
    std::vector<Shape> shapes;
    std::shared_ptr<const RunPlan> plan;
  };
  mutable std::mutex mutex_;
  std::list<Entry> plans_;  // most recently used first
  std::shared_ptr<const Plan> newest_;
  std::vector<ProfileReport> node_times_, copy_times_;
  int64_t other_ns_ = 0, runs_ = 0;
};

}  // namespace pyruntime
