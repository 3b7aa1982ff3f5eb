#include "runtime/plan_builder.h"

#include <algorithm>

#include "runtime/for_each_node.h"
#include "runtime/memory_planner.h"
#include "runtime/strided_copy.h"

namespace pyruntime {
namespace {

constexpr size_t kSlack = 64;  // readable bytes kernels expect round their inputs

bool selects(unsigned mask, int input) { return input >= 32 || (mask >> input & 1u); }

// A channels-last operand whose memory is in C order anyway, or a plain one in channels-last order.
bool same_memory(const Tensor& from, const Tensor& to) {
  if (from.halo.any() || to.halo.any()) return false;
  for (size_t d = 0; d < from.shape.size(); ++d) {
    if (from.shape[d] != 1 && from.strides[d] != to.strides[d]) return false;
  }
  return true;
}

}  // namespace

void PlanBuilder::build(const std::vector<Shape>& input_shapes) {
  shapes_ = infer_shapes(program_, operators_, input_shapes);
  layouts_ = assign_layouts(program_, operators_, shapes_);
  fusions_ = find_fusions(program_, operators_, shapes_, layouts_);
  halo_filled_.assign(program_.values.size(), false);
  bound_.assign(program_.outputs.size(), false);
  pending_.resize(program_.nodes.size());
  for (const Value& value : program_.values) {
    if (!value.constant) continue;
    weight_bytes_ +=
        static_cast<double>(element_count(value.shape)) * static_cast<double>(dtype_size(value.dtype));
  }
  place_sources();
  for (size_t i = 0; i < program_.outputs.size(); ++i)
    plan_.output_shapes_.push_back(shapes_[program_.outputs[i]]);
  for (size_t i = 0; i < program_.nodes.size(); ++i) add_node(static_cast<int>(i));
  for (int v : program_.outputs) export_value(v, fetch_any(v));  // inputs and constants that are outputs too
  prepare_steps();
  plan_arena();
}

void PlanBuilder::place_sources() {
  placed_.resize(program_.values.size());
  for (size_t i = 0; i < program_.inputs.size(); ++i) {
    const int v = program_.inputs[i];
    BufferPlan buffer;
    buffer.kind = BufferPlan::Kind::input;
    buffer.index = static_cast<int>(i);
    placed_[v].plain = {add_buffer(buffer), 0, plain_tensor(program_.values[v].dtype, shapes_[v])};
  }
  for (size_t v = 0; v < program_.values.size(); ++v) {
    const Value& value = program_.values[v];
    if (!value.constant) continue;
    BufferPlan buffer;
    buffer.kind = BufferPlan::Kind::constant;
    buffer.data = value.data;
    placed_[v].plain = {add_buffer(buffer), 0, plain_tensor(value.dtype, value.shape)};
  }
}

void PlanBuilder::add_node(int index) {
  const Node& node = program_.nodes[index];
  const Operator& op = *operators_[index];
  if (op.is_alias() || fusions_.absorbed[index]) {
    if (op.is_alias()) {
      Operand out = fetch_form(node.inputs[0], Form::plain);
      out.t = plain_tensor(program_.values[node.output].dtype, shapes_[node.output]);
      placed_[node.output].plain = out;
    }
    add_idle_step(index, node.output, op.is_alias() ? "runtime:view" : "runtime:fused");
    return;
  }
  PlanContext context;
  const int sum = fusions_.sum_node[index], quantize = fusions_.quantize_node[index];
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    const bool read =
        node.inputs[i] >= 0 && selects(op.traits().data_inputs, static_cast<int>(i)) && !(i == 0 && sum >= 0);
    context.inputs.push_back(read ? fetch(index, static_cast<int>(i)) : Operand());
  }
  std::vector<Operand> reads = context.inputs;
  if (sum >= 0) {
    context.sum = operators_[sum]->sum();
    for (int addend : program_.nodes[sum].inputs) context.addends.push_back(fetch_form(addend, Form::plain));
    reads.insert(reads.end(), context.addends.begin(), context.addends.end());
  }
  int value = node.output;
  if (fusions_.table_node[index] >= 0) {
    value = program_.nodes[fusions_.table_node[index]].output;
    context.table = operators_[fusions_.table_node[index]]->table();
  }
  context.output = place_output(index, value);
  std::vector<Operand> writes = {context.output};
  if (quantize >= 0) {
    const int result = program_.nodes[quantize].output;
    context.quantized_value = &program_.values[result];
    context.quantized = place_output(quantize, result);
    writes.push_back(context.quantized);
  }
  context.isa = options_.isa;
  context.num_threads = options_.num_threads;
  context.program_weight_bytes = weight_bytes_;
  context.weight_format = options_.weight_format;
  context.tuning = options_.tuning.get();
  context.cache = cache_;
  if (context.output.t.count() == 0) {
    add_idle_step(index, value, "runtime:empty");
    return;
  }
  PlanStep step;
  step.node = index;
  set_halo(value, &step);
  const Operand output = context.output;
  add_step(std::move(step), reads, writes);
  pending_[index] = {static_cast<int>(plan_.steps_.size()) - 1, std::move(context)};
  if (value == node.output) export_value(value, output);
}

// Kernels are chosen and weights packed once all memory is laid out, so that nodes do not wait for another.
void PlanBuilder::prepare_steps() {
  for_each_node(program_, *pool_, [&](int node) {
    const Pending& p = pending_[node];
    if (p.step >= 0) plan_.steps_[p.step].step = operators_[node]->prepare(p.context);
  });
}

// A node that needs no work of its own; its result stands in `value`.
void PlanBuilder::add_idle_step(int index, int value, const char* kernel) {
  PlanStep step;
  step.step.kernel = kernel;
  step.step.precision = program_.values[value].dtype == DType::f32 ? "float32" : "int8";
  step.node = index;
  const Operand out = fetch_any(value);
  if (!out.present()) {  // a sum that is never stored
    add_step(std::move(step), {}, {});
    return;
  }
  add_step(std::move(step), {out}, {out});
  export_value(value, out);
}

// The value that owns the memory `value` lies in: the output of the outermost concat, or the value itself.
int PlanBuilder::root_of(int value) const {
  while (fusions_.part[value].concat >= 0) value = program_.nodes[fusions_.part[value].concat].output;
  return value;
}

// The first step that writes into a memory fills its halo.
void PlanBuilder::set_halo(int value, PlanStep* step) {
  const int root = root_of(value);
  const Operand owner = fetch_any(root);
  if (halo_filled_[root] || !owner.t.halo.any()) return;
  halo_filled_[root] = true;
  step->halo = owner;
  step->halo_byte = halo_byte(root);
}

Operand PlanBuilder::fetch(int node_index, int input) {
  const Node& node = program_.nodes[node_index];
  const LayoutTraits traits = operators_[node_index]->traits();
  const int value = node.inputs[input];
  Form form = traits.input;
  if (form == Form::any && traits.propagates && !traits.converts &&
      layouts_.form[node.output] == Form::channels_last &&
      shapes_[value].size() == shapes_[node.output].size())
    form = Form::channels_last;
  const Operand operand = form == Form::any ? fetch_any(value) : fetch_form(value, form);
  return selects(traits.slack_inputs, input) ? to_arena(value, operand) : operand;
}

Operand PlanBuilder::fetch_any(int value) {
  const Placed& p = placed_[value];
  return p.channels_last.present() ? p.channels_last : p.plain;
}

Operand PlanBuilder::fetch_form(int value, Form form) {
  Placed& p = placed_[value];
  const Value& v = program_.values[value];
  const bool wants_image = form == Form::channels_last && is_image(shapes_[value]);
  Operand& have = wants_image ? p.channels_last : p.plain;
  if (have.present()) return have;
  const Operand other = wants_image ? p.plain : p.channels_last;
  const Tensor to = wants_image ? channels_last_tensor(v.dtype, shapes_[value], layouts_.halo[value])
                                : plain_tensor(v.dtype, shapes_[value]);
  if (same_memory(other.t, to)) {
    have = other;
    have.t = to;
  } else {
    have = convert(value, other, to);
  }
  return have;
}

// The same operand in memory with slack round it: program inputs and constants are copied.
Operand PlanBuilder::to_arena(int value, Operand operand) {
  const BufferPlan& buffer = plan_.buffers_[operand.buffer];
  const bool own_constant =
      buffer.kind == BufferPlan::Kind::constant && buffer.data != program_.values[value].data;
  if (buffer.kind == BufferPlan::Kind::arena || own_constant) return operand;
  const Operand copy = convert(value, operand, operand.t);
  Placed& p = placed_[value];
  for (Operand* o : {&p.plain, &p.channels_last}) {
    if (o->buffer != operand.buffer) continue;
    const Tensor t = o->t;
    *o = copy;
    o->t = t;
  }
  return copy;
}

Operand PlanBuilder::convert(int value, const Operand& from, Tensor to) {
  if (program_.values[value].constant) {
    // Constants change their layout once, here.
    const Extent extent = tensor_extent(to);
    AlignedBuffer memory(kSlack + extent.bytes + kSlack);
    char* data = memory.data() + kSlack + extent.lead;
    if (to.count() > 0) {
      if (to.halo.any()) fill_halo(to, data, halo_byte(value));
      StridedCopy copy(to.shape, to.strides, from.t.strides, to.item(), 1);
      copy.run(data, static_cast<const char*>(program_.values[value].data), 0);
    }
    BufferPlan buffer;
    buffer.kind = BufferPlan::Kind::constant;
    buffer.data = data;
    plan_.constants_.push_back(std::move(memory));
    return {add_buffer(buffer), 0, to};
  }
  const Operand out = arena_operand(to);
  if (to.count() == 0) return out;
  PlanStep step;
  step.step = make_copy_step(from, out, options_.num_threads);
  step.value = program_.values[value].name;
  if (to.halo.any()) step.halo = out;
  step.halo_byte = halo_byte(value);
  add_step(std::move(step), {from}, {out});
  return out;
}

Operand PlanBuilder::place_output(int node, int value) {
  const Value& v = program_.values[value];
  const bool image = is_image(shapes_[value]) && operators_[node]->traits().output != Form::plain &&
                     layouts_.form[value] == Form::channels_last;
  Operand& out = image ? placed_[value].channels_last : placed_[value].plain;
  if (out.present()) return out;  // a concat some of whose inputs were written already
  const Fusions::Part part = fusions_.part[value];
  if (part.concat >= 0) {
    out = place_output(part.concat, program_.nodes[part.concat].output);
    out.offset += part.channel * static_cast<ptrdiff_t>(out.t.item());
    out.t.shape = shapes_[value];
    return out;
  }
  const Tensor t = image ? channels_last_tensor(v.dtype, shapes_[value], layouts_.halo[value])
                         : plain_tensor(v.dtype, shapes_[value]);
  for (size_t i = 0; i < program_.outputs.size() && !out.present(); ++i) {
    if (program_.outputs[i] != value || t.halo.any() || !is_contiguous(t)) continue;
    BufferPlan buffer;
    buffer.kind = BufferPlan::Kind::output;
    buffer.index = static_cast<int>(i);
    out = {add_buffer(buffer), 0, t};
    bound_[i] = true;
  }
  if (!out.present()) out = arena_operand(t);
  return out;
}

void PlanBuilder::export_value(int value, const Operand& from) {
  for (size_t i = 0; i < program_.outputs.size(); ++i) {
    if (program_.outputs[i] != value || bound_[i]) continue;
    bound_[i] = true;
    if (from.t.count() == 0) continue;
    BufferPlan buffer;
    buffer.kind = BufferPlan::Kind::output;
    buffer.index = static_cast<int>(i);
    const Operand out{add_buffer(buffer), 0, plain_tensor(from.t.dtype, from.t.shape)};
    PlanStep step;
    step.step = make_copy_step(from, out, options_.num_threads);
    step.value = program_.values[value].name;
    add_step(std::move(step), {from}, {out});
  }
}

void PlanBuilder::add_step(PlanStep step, const std::vector<Operand>& reads,
                           const std::vector<Operand>& writes) {
  const int index = static_cast<int>(plan_.steps_.size());
  for (const Operand& o : reads) {
    if (o.present()) plan_.buffers_[o.buffer].last = std::max(plan_.buffers_[o.buffer].last, index);
  }
  for (const Operand& o : writes) {
    BufferPlan& out = plan_.buffers_[o.buffer];
    out.last = std::max(out.last, index);
    out.first = std::min(out.first, index);
  }
  plan_.steps_.push_back(std::move(step));
}

int PlanBuilder::add_buffer(const BufferPlan& buffer) {
  plan_.buffers_.push_back(buffer);
  plan_.buffers_.back().first = static_cast<int>(plan_.steps_.size());
  return static_cast<int>(plan_.buffers_.size()) - 1;
}

Operand PlanBuilder::arena_operand(const Tensor& t) {
  const Extent extent = tensor_extent(t);
  BufferPlan buffer;
  buffer.bytes = extent.bytes;
  return {add_buffer(buffer), static_cast<ptrdiff_t>(extent.lead), t};
}

uint8_t PlanBuilder::halo_byte(int value) const {
  const Value& v = program_.values[value];
  return v.dtype == DType::u8 || v.dtype == DType::s8 ? static_cast<uint8_t>(v.zero_point) : 0;
}

void PlanBuilder::plan_arena() {
  std::vector<BufferLife> lives;
  std::vector<BufferPlan*> owners;
  for (BufferPlan& b : plan_.buffers_) {
    if (b.kind != BufferPlan::Kind::arena) continue;
    lives.push_back({b.bytes, b.first, b.last, 0});
    owners.push_back(&b);
  }
  plan_.arena_bytes_ = kSlack + plan_memory(lives) + kSlack;
  for (size_t i = 0; i < lives.size(); ++i) owners[i]->offset = kSlack + lives[i].offset;
  for (const PlanStep& s : plan_.steps_)
    plan_.scratch_stride_ = std::max(plan_.scratch_stride_, s.step.scratch_bytes);
  plan_.scratch_stride_ = (plan_.scratch_stride_ + 127) / 64 * 64;
}

}  // namespace pyruntime
