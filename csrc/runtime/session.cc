#include "runtime/session.h"

#include <chrono>
#include <map>

#include "base/cpu_features.h"
#include "runtime/batch.h"
#include "runtime/for_each_node.h"

namespace pyruntime {
namespace {

constexpr size_t kMaxPlans = 16;
constexpr int kMaxThreads = 1024;

std::optional<WeightFormat> parse_weight_format(const std::string& name) {
  if (name == "auto") return std::nullopt;
  for (const WeightFormat format : {WeightFormat::dense, WeightFormat::winograd, WeightFormat::int4,
                                    WeightFormat::block4, WeightFormat::bitmask}) {
    if (name == weight_format_name(format)) return format;
  }
  throw Error("weight_format '" + name + "': expected auto, dense, winograd, int4, block4 or bitmask");
}

int checked_threads(int requested) {
  if (requested < 0 || requested > kMaxThreads)
    throw Error("num_threads " + std::to_string(requested) + ": expected 0 to " +
                std::to_string(kMaxThreads));
  return requested == 0 ? default_num_threads() : requested;
}

}  // namespace

Session::Session(Program program, const SessionOptions& options)
    : program_(std::make_unique<const Program>(std::move(program))),
      profiling_(options.profiling),
      pool_(shared_thread_pool(checked_threads(options.num_threads))) {
  plan_options_.isa = resolve_isa(options.isa);
  plan_options_.num_threads = pool_->num_threads();
  plan_options_.weight_format = parse_weight_format(options.weight_format);
  plan_options_.tuning = options.tuning;
  operators_.resize(program_->nodes.size());
  for_each_node(*program_, *pool_, [&](int i) { operators_[i] = make_operator(NodeInfo(*program_, i)); });
  for (const Node& node : program_->nodes) node_times_.push_back({node.name, node.op, "", 0, 0});
  plan_ahead();
}

// Plans for the declared shapes, batch 1, so that the first run is like any other.
void Session::plan_ahead() {
  std::vector<Shape> shapes;
  bool symbolic = false;
  for (int v : program_->inputs) {
    Shape shape;
    for (const Dim& d : program_->values[v].spec) {
      shape.push_back(d.symbol.empty() ? d.size : 1);
      symbolic = symbolic || !d.symbol.empty();
    }
    shapes.push_back(std::move(shape));
  }
  try {
    plan_for(shapes);
  } catch (const Error&) {
    if (!symbolic) throw;  // with a symbolic dimension, 1 may just not be a size that fits
  }
}

void Session::check_shapes(const std::vector<Shape>& input_shapes) const {
  if (input_shapes.size() != program_->inputs.size())
    throw Error("run got " + std::to_string(input_shapes.size()) + " inputs: expected " +
                std::to_string(program_->inputs.size()));
  std::map<std::string, int64_t> symbols;
  for (size_t i = 0; i < input_shapes.size(); ++i) {
    const Value& v = program_->values[program_->inputs[i]];
    bool fits = v.spec.size() == input_shapes[i].size();
    std::string expected;
    for (size_t d = 0; d < v.spec.size(); ++d) {
      const Dim& dim = v.spec[d];
      expected += (d ? ", " : "") + (dim.symbol.empty() ? std::to_string(dim.size) : dim.symbol);
      if (!fits) continue;
      const int64_t size = input_shapes[i][d];
      const int64_t want = dim.symbol.empty() ? dim.size : symbols.emplace(dim.symbol, size).first->second;
      if (size != want) fits = false;
    }
    if (!fits)
      throw Error("input '" + v.name + "' has shape " + shape_string(input_shapes[i]) + ": expected [" +
                  expected + "]");
    element_count(input_shapes[i]);
  }
}

std::shared_ptr<const RunPlan> Session::find_plan(const std::vector<Shape>& input_shapes) {
  std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
  return lock.owns_lock() ? find_plan_locked(input_shapes) : nullptr;
}

std::shared_ptr<const RunPlan> Session::find_plan_locked(const std::vector<Shape>& input_shapes) {
  for (auto it = plans_.begin(); it != plans_.end(); ++it) {
    if (it->shapes != input_shapes) continue;
    plans_.splice(plans_.begin(), plans_, it);
    return it->plan;
  }
  return nullptr;
}

std::shared_ptr<const RunPlan> Session::plan_for(const std::vector<Shape>& input_shapes) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (std::shared_ptr<const RunPlan> found = find_plan_locked(input_shapes)) return found;
  check_shapes(input_shapes);
  const std::vector<int64_t> slices = batch_slices(*program_, operators_, input_shapes);
  if (slices.empty()) return whole_plan(input_shapes);
  auto run = std::make_shared<RunPlan>();
  int64_t first = 0;
  for (const int64_t samples : slices) {
    run->slices.push_back({whole_plan(with_samples(input_shapes, samples))->slices[0].plan, first});
    first += samples;
  }
  run->output_shapes = with_samples(run->slices[0].plan->output_shapes(), first);
  keep(input_shapes, run);
  return run;
}

std::shared_ptr<const RunPlan> Session::whole_plan(const std::vector<Shape>& input_shapes) {
  const std::shared_ptr<const RunPlan> found = find_plan_locked(input_shapes);
  if (found != nullptr && found->slices.size() == 1) return found;
  auto run = std::make_shared<RunPlan>();
  auto plan =
      std::make_shared<const Plan>(*program_, operators_, input_shapes, plan_options_, &cache_, pool_.get());
  run->output_shapes = plan->output_shapes();
  run->slices.push_back({std::move(plan), 0});
  keep(input_shapes, run);
  return run;
}

void Session::keep(const std::vector<Shape>& input_shapes, std::shared_ptr<const RunPlan> run) {
  newest_ = run->slices[0].plan;
  plans_.push_front({input_shapes, std::move(run)});
  if (plans_.size() > kMaxPlans) plans_.pop_back();
}

void Session::run(const RunPlan& run, const void* const* inputs, void* const* outputs) {
  for (const RunPlan::Slice& slice : run.slices) {
    const Plan& plan = *slice.plan;
    if (!profiling_) {
      plan.run(inputs, outputs, slice.first, *pool_, nullptr);
      continue;
    }
    std::vector<int64_t> step_ns(plan.steps().size(), 0);
    using Clock = std::chrono::steady_clock;
    const Clock::time_point begin = Clock::now();
    plan.run(inputs, outputs, slice.first, *pool_, step_ns.data());
    record(plan, step_ns, std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - begin).count());
  }
}

void Session::record(const Plan& plan, const std::vector<int64_t>& step_ns, int64_t wall_ns) {
  std::lock_guard<std::mutex> lock(mutex_);
  int64_t rest = wall_ns;
  for (size_t i = 0; i < step_ns.size(); ++i) {
    const PlanStep& s = plan.steps()[i];
    ProfileReport* row = nullptr;
    if (s.node >= 0) {
      row = &node_times_[s.node];
    } else {
      for (ProfileReport& r : copy_times_) {
        if (r.node == s.value) row = &r;
      }
      if (row == nullptr) {
        copy_times_.push_back({s.value, "copy", "", 0, 0});
        row = &copy_times_.back();
      }
    }
    row->kernel = s.step.kernel;
    row->calls += 1;
    row->nanoseconds += step_ns[i];
    rest -= step_ns[i];
  }
  other_ns_ += rest;
  runs_ += 1;
}

std::vector<KernelReport> Session::kernels() const {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<KernelReport> rows;
  if (!newest_) return rows;
  for (const PlanStep& s : newest_->steps()) {
    if (s.node < 0) continue;
    const Node& node = program_->nodes[s.node];
    const bool tuned = s.step.tuning != nullptr && s.step.tuning->tuned;
    rows.push_back(
        {node.name, node.op, s.step.kernel, s.step.isa, s.step.precision, s.step.weight_bytes, tuned});
  }
  return rows;
}

std::vector<TuningReport> Session::tuning() const {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<TuningReport> rows;
  if (!newest_) return rows;
  for (const PlanStep& s : newest_->steps()) {
    if (s.step.tuning != nullptr) rows.push_back({program_->nodes[s.node].name, s.step.tuning});
  }
  return rows;
}

std::vector<ProfileReport> Session::profile() const {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<ProfileReport> rows = node_times_;
  rows.insert(rows.end(), copy_times_.begin(), copy_times_.end());
  rows.push_back({"", "other", "", runs_, other_ns_});
  return rows;
}

}  // namespace pyruntime
