// A program as the bindings hand it over: values, constants and nodes (docs/format.md, section 1), checked
// and indexed.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "base/tensor.h"

namespace pyruntime {

using AttributeValue = std::variant<int64_t, double, std::string, std::vector<int64_t>, std::vector<double>>;
using Attributes = std::map<std::string, AttributeValue>;

// A dimension of a program input: a size, or a name that binds to a size at run time.
struct Dim {
  int64_t size = 0;
  std::string symbol;  // empty: `size` holds
};

// A program input, a constant or the output of a node.
struct Value {
  std::string name;
  DType dtype = DType::f32;
  std::vector<Dim> spec;   // binding for program inputs, informative otherwise
  bool quantized = false;  // scale and zero_point are given
  float scale = 1.0f;
  int32_t zero_point = 0;
  bool constant = false;
  const void* data = nullptr;  // constants: C order, kept alive by `Program::owner`
  Shape shape;                 // constants
  // The data of weights [O, C, ...] stands in the order [O, ..., C]. Only integer `conv` takes such.
  bool channels_last = false;
};

struct Node {
  std::string name, op;
  std::vector<int> inputs;  // indices into Program::values, -1 for an absent optional input
  int output = -1;          // every operator has one output
  Attributes attributes;
};

struct Program {
  std::vector<Value> values;
  std::vector<Node> nodes;
  std::vector<int> inputs, outputs;
  std::shared_ptr<void> owner;  // keeps the memory of the constants
};

// Names as given, before they are resolved.
struct NodeSpec {
  std::string name, op;
  std::vector<std::string> inputs, outputs;
  Attributes attributes;
};

// Resolves names and checks the structure: unique names, order of execution, one producer per value, finite
// scales above zero, zero points within the dtype. Throws Error.
Program build_program(std::vector<Value> values, std::vector<NodeSpec> nodes,
                      const std::vector<std::string>& inputs, const std::vector<std::string>& outputs);

// One node with what an operator asks about it. All getters throw an Error that names the node.
class NodeInfo {
 public:
  NodeInfo(const Program& program, int index) : program_(&program), index_(index) {}

  const Node& node() const { return program_->nodes[index_]; }
  int index() const { return index_; }
  int num_inputs() const { return static_cast<int>(node().inputs.size()); }
  bool has_input(int i) const { return i < num_inputs() && node().inputs[i] >= 0; }
  const Value& input(int i) const;     // present input, else Error
  const Value& constant(int i) const;  // present and constant, else Error
  const Value& output() const { return program_->values[node().output]; }

  void expect_inputs(int at_least, int at_most) const;
  void expect_dtype(const Value& value, std::initializer_list<DType> allowed) const;

  bool has(const std::string& name) const { return node().attributes.count(name) != 0; }
  int64_t get_int(const std::string& name, int64_t fallback) const;
  int64_t get_int(const std::string& name) const;
  double get_float(const std::string& name, double fallback) const;
  double get_float(const std::string& name) const;
  std::string get_string(const std::string& name, const std::string& fallback) const;
  std::vector<int64_t> get_ints(const std::string& name, const std::vector<int64_t>& fallback) const;
  std::vector<int64_t> get_ints(const std::string& name) const;
  std::vector<double> get_floats(const std::string& name) const;

  [[noreturn]] void fail(const std::string& what) const;

 private:
  const AttributeValue* find(const std::string& name) const;
  const AttributeValue& require(const std::string& name) const;
  [[noreturn]] void wrong_type(const std::string& name, const char* expected) const;

  const Program* program_;
  int index_;
};

}  // namespace pyruntime
