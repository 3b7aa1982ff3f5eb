#include "runtime/fusion.h"

namespace pyruntime {
namespace {

struct Uses {
  std::vector<int> producer;               // node, -1: program input or constant
  std::vector<std::vector<int>> consumer;  // nodes, one entry per input that reads the value
};

Uses find_uses(const Program& program) {
  Uses uses{std::vector<int>(program.values.size(), -1),
            std::vector<std::vector<int>>(program.values.size())};
  for (size_t i = 0; i < program.nodes.size(); ++i) {
    uses.producer[program.nodes[i].output] = static_cast<int>(i);
    for (int v : program.nodes[i].inputs) {
      if (v >= 0) uses.consumer[v].push_back(static_cast<int>(i));
    }
  }
  for (int v : program.outputs) uses.consumer[v].push_back(-1);  // read by the caller
  return uses;
}

void find_tables(const Program& program, const Operators& operators, const Uses& uses, Fusions* fusions) {
  for (size_t i = 0; i < program.nodes.size(); ++i) {
    const int out = program.nodes[i].output;
    if (!operators[i]->applies_table() || uses.consumer[out].size() != 1) continue;
    const int next = uses.consumer[out][0];
    if (next < 0 || operators[next]->table() == nullptr) continue;
    if (program.values[program.nodes[next].output].dtype != DType::u8) continue;
    fusions->table_node[i] = next;
    fusions->absorbed[next] = true;
  }
}

void find_sums(const Program& program, const Operators& operators, const std::vector<Shape>& shapes,
               const Uses& uses, Fusions* fusions) {
  for (size_t i = 0; i < program.nodes.size(); ++i) {
    if (!operators[i]->normalizes()) continue;
    const int in = program.nodes[i].inputs[0];
    if (uses.consumer[in].size() != 1) continue;
    const int sum = uses.producer[in];
    if (sum < 0 || operators[sum]->sum() == nullptr || element_count(shapes[in]) == 0) continue;
    const std::vector<int>& addends = program.nodes[sum].inputs;
    if (shapes[addends[0]] != shapes[in] || shapes[addends[1]] != shapes[in]) continue;
    fusions->sum_node[i] = sum;
    fusions->absorbed[sum] = true;
  }
}

void find_quantized(const Program& program, const Operators& operators, const Layouts& layouts,
                    const Uses& uses, Fusions* fusions) {
  for (size_t i = 0; i < program.nodes.size(); ++i) {
    const int out = program.nodes[i].output;
    if (!operators[i]->normalizes() || program.values[out].dtype != DType::f32) continue;
    for (int next : uses.consumer[out]) {
      if (next < 0 || !operators[next]->quantizes()) continue;
      if (layouts.form[program.nodes[next].output] != Form::plain) continue;
      fusions->quantize_node[i] = next;
      fusions->absorbed[next] = true;
      break;
    }
  }
}

// Whether an operator loses little by writing pixels that do not follow one another in memory. Element-wise
// kernels then run once per pixel (which pays for long pixels only) and expect runs of stride 1: more than
// one channel.
bool writes_pixels_well(const Operator& op, bool absorbed, int64_t channels) {
  constexpr int64_t kLongPixel = 256;
  if (op.is_alias() || channels < 2) return false;
  return absorbed || !op.traits().elementwise || channels >= kLongPixel;
}

void find_parts(const Program& program, const Operators& operators, const std::vector<Shape>& shapes,
                const Layouts& layouts, const Uses& uses, Fusions* fusions) {
  for (size_t i = 0; i < program.nodes.size(); ++i) {
    const int out = program.nodes[i].output;
    if (!operators[i]->joins_channels(shapes[out]) || layouts.form[out] != Form::channels_last) continue;
    if (element_count(shapes[out]) == 0) continue;
    int64_t channel = 0;
    for (int v : program.nodes[i].inputs) {
      const int producer = uses.producer[v];
      const bool fits = producer >= 0 && uses.consumer[v].size() == 1 &&
                        layouts.form[v] == Form::channels_last &&
                        writes_pixels_well(*operators[producer], fusions->absorbed[producer], shapes[v][1]);
      if (fits) fusions->part[v] = {static_cast<int>(i), channel};
      channel += shapes[v][1];
    }
  }
}

}  // namespace

Fusions find_fusions(const Program& program, const Operators& operators, const std::vector<Shape>& shapes,
                     const Layouts& layouts) {
  Fusions fusions;
  fusions.table_node.assign(program.nodes.size(), -1);
  fusions.sum_node.assign(program.nodes.size(), -1);
  fusions.quantize_node.assign(program.nodes.size(), -1);
  fusions.absorbed.assign(program.nodes.size(), false);
  fusions.part.resize(program.values.size());
  const Uses uses = find_uses(program);
  find_tables(program, operators, uses, &fusions);
  find_sums(program, operators, shapes, uses, &fusions);
  find_quantized(program, operators, layouts, uses, &fusions);
  find_parts(program, operators, shapes, layouts, uses, &fusions);
  return fusions;
}

}  // namespace pyruntime
