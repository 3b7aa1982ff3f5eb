// Turns a program and its shapes into steps and buffers.
#pragma once

#include "runtime/fusion.h"
#include "runtime/plan.h"

namespace pyruntime {

class PlanBuilder {
 public:
  PlanBuilder(Plan& plan, const Program& program, const Operators& operators, const PlanOptions& options,
              WeightCache* cache, ThreadPool* pool)
      : plan_(plan),
        program_(program),
        operators_(operators),
        options_(options),
        cache_(cache),
        pool_(pool) {}

  void build(const std::vector<Shape>& input_shapes);

 private:
  // A value in the forms it exists in so far.
  struct Placed {
    Operand plain, channels_last;
  };

  // A step whose kernel is yet to be chosen.
  struct Pending {
    int step = -1;
    PlanContext context;
  };

  void place_sources();
  void add_node(int index);
  void add_idle_step(int index, int value, const char* kernel);
  int root_of(int value) const;
  void set_halo(int value, PlanStep* step);
  Operand fetch(int node, int input);
  Operand fetch_form(int value, Form form);
  Operand fetch_any(int value);
  Operand to_arena(int value, Operand operand);
  Operand convert(int value, const Operand& from, Tensor to);
  Operand place_output(int node, int value);
  void export_value(int value, const Operand& from);
  void add_step(PlanStep step, const std::vector<Operand>& reads, const std::vector<Operand>& writes);
  int add_buffer(const BufferPlan& buffer);
  Operand arena_operand(const Tensor& t);
  uint8_t halo_byte(int value) const;
  void prepare_steps();
  void plan_arena();

  Plan& plan_;
  const Program& program_;
  const Operators& operators_;
  const PlanOptions& options_;
  WeightCache* cache_;
  ThreadPool* pool_;
  double weight_bytes_ = 0;  // of all constants
  std::vector<Shape> shapes_;
  Layouts layouts_;
  Fusions fusions_;
  std::vector<Placed> placed_;
  std::vector<Pending> pending_;   // per node; step -1: none
  std::vector<bool> bound_;        // per program output: written in place by its producer
  std::vector<bool> halo_filled_;  // per value
};

}  // namespace pyruntime
