#include "runtime/program.h"

#include <cmath>
#include <unordered_map>
#include <unordered_set>

namespace pyruntime {
namespace {

void check_value(const Value& v) {
  if (v.name.empty()) throw Error("a value has an empty name");
  if (v.constant) {
    const int64_t count = element_count(v.shape);
    if (count > 0 && v.data == nullptr) throw Error("constant '" + v.name + "' has no data");
    return;
  }
  for (const Dim& d : v.spec) {
    if (d.symbol.empty() && d.size < 0)
      throw Error("value '" + v.name + "' has dimension " + std::to_string(d.size) + ": expected >= 0");
  }
  if (!v.quantized) return;
  if (!(std::isfinite(v.scale) && v.scale > 0.0f))
    throw Error("value '" + v.name + "' has scale " + std::to_string(v.scale) + ": expected finite and > 0");
  const int lo = v.dtype == DType::s8 ? -128 : 0, hi = v.dtype == DType::s8 ? 127 : 255;
  if ((v.dtype == DType::u8 || v.dtype == DType::s8) && (v.zero_point < lo || v.zero_point > hi))
    throw Error("value '" + v.name + "' has zero_point " + std::to_string(v.zero_point) + ": outside " +
                dtype_name(v.dtype));
}

}  // namespace

Program build_program(std::vector<Value> values, std::vector<NodeSpec> nodes,
                      const std::vector<std::string>& inputs, const std::vector<std::string>& outputs) {
  Program p;
  p.values = std::move(values);
  std::unordered_map<std::string, int> index;
  std::vector<bool> produced(p.values.size(), false);
  for (size_t i = 0; i < p.values.size(); ++i) {
    check_value(p.values[i]);
    if (!index.emplace(p.values[i].name, static_cast<int>(i)).second)
      throw Error("value '" + p.values[i].name + "' is declared twice");
    produced[i] = p.values[i].constant;
  }
  auto find = [&](const std::string& name, const std::string& where) {
    auto it = index.find(name);
    if (it == index.end())
      throw Error(where + " names '" + name + "', which is neither a value nor a constant");
    return it->second;
  };
  for (const std::string& name : inputs) {
    const int v = find(name, "the list of inputs");
    if (produced[v]) throw Error("input '" + name + "' is listed twice or is a constant");
    produced[v] = true;
    p.inputs.push_back(v);
  }
  std::unordered_set<std::string> names;
  for (NodeSpec& spec : nodes) {
    if (!names.insert(spec.name).second) throw Error("node name '" + spec.name + "' is used twice");
    const std::string where = "node '" + spec.name + "'";
    Node node;
    for (const std::string& name : spec.inputs) {
      const int v = name.empty() ? -1 : find(name, where);
      if (v >= 0 && !produced[v]) throw Error(where + " reads '" + name + "' before it is produced");
      if (v >= 0 && p.values[v].channels_last && (spec.op != "conv" || node.inputs.size() != 1))
        throw Error(where + " reads '" + name +
                    "', which is not C-contiguous: only the weights of conv may be");
      node.inputs.push_back(v);
    }
    if (spec.outputs.size() != 1)
      throw Error(where + " has " + std::to_string(spec.outputs.size()) + " outputs: expected 1");
    node.output = find(spec.outputs[0], where);
    if (produced[node.output])
      throw Error(where + " produces '" + spec.outputs[0] + "', which exists already");
    produced[node.output] = true;
    node.name = std::move(spec.name);
    node.op = std::move(spec.op);
    node.attributes = std::move(spec.attributes);
    p.nodes.push_back(std::move(node));
  }
  for (const std::string& name : outputs) {
    const int v = find(name, "the list of outputs");
    if (!produced[v]) throw Error("output '" + name + "' is produced by no node");
    if (p.values[v].channels_last) throw Error("output '" + name + "' is not C-contiguous");
    p.outputs.push_back(v);
  }
  return p;
}

const Value& NodeInfo::input(int i) const {
  if (!has_input(i)) fail("has no input " + std::to_string(i));
  return program_->values[node().inputs[i]];
}

const Value& NodeInfo::constant(int i) const {
  const Value& v = input(i);
  if (!v.constant) fail("needs a constant as input " + std::to_string(i) + ", '" + v.name + "' is computed");
  return v;
}

void NodeInfo::expect_inputs(int at_least, int at_most) const {
  const int n = num_inputs();
  if (n < at_least || n > at_most)
    fail("has " + std::to_string(n) + " inputs: expected " + std::to_string(at_least) +
         (at_most > at_least ? " to " + std::to_string(at_most) : ""));
}

void NodeInfo::expect_dtype(const Value& value, std::initializer_list<DType> allowed) const {
  std::string names;
  for (DType t : allowed) {
    if (value.dtype == t) return;
    names += std::string(names.empty() ? "" : " or ") + dtype_name(t);
  }
  fail("has '" + value.name + "' of dtype " + dtype_name(value.dtype) + ": expected " + names);
}

void NodeInfo::fail(const std::string& what) const {
  throw Error("node '" + node().name + "' (" + node().op + ") " + what);
}

const AttributeValue* NodeInfo::find(const std::string& name) const {
  auto it = node().attributes.find(name);
  return it == node().attributes.end() ? nullptr : &it->second;
}

const AttributeValue& NodeInfo::require(const std::string& name) const {
  const AttributeValue* v = find(name);
  if (v == nullptr) fail("lacks attribute '" + name + "'");
  return *v;
}

void NodeInfo::wrong_type(const std::string& name, const char* expected) const {
  fail("has attribute '" + name + "' of the wrong type: expected " + expected);
}

int64_t NodeInfo::get_int(const std::string& name) const {
  const AttributeValue& v = require(name);
  if (const int64_t* i = std::get_if<int64_t>(&v)) return *i;
  wrong_type(name, "an integer");
}
int64_t NodeInfo::get_int(const std::string& name, int64_t fallback) const {
  return has(name) ? get_int(name) : fallback;
}

double NodeInfo::get_float(const std::string& name) const {
  const AttributeValue& v = require(name);
  if (const double* d = std::get_if<double>(&v)) return *d;
  if (const int64_t* i = std::get_if<int64_t>(&v)) return static_cast<double>(*i);
  wrong_type(name, "a number");
}
double NodeInfo::get_float(const std::string& name, double fallback) const {
  return has(name) ? get_float(name) : fallback;
}

std::string NodeInfo::get_string(const std::string& name, const std::string& fallback) const {
  if (!has(name)) return fallback;
  if (const std::string* s = std::get_if<std::string>(&require(name))) return *s;
  wrong_type(name, "a string");
}

std::vector<int64_t> NodeInfo::get_ints(const std::string& name) const {
  const AttributeValue& v = require(name);
  if (const std::vector<int64_t>* i = std::get_if<std::vector<int64_t>>(&v)) return *i;
  wrong_type(name, "a list of integers");
}
std::vector<int64_t> NodeInfo::get_ints(const std::string& name, const std::vector<int64_t>& fallback) const {
  return has(name) ? get_ints(name) : fallback;
}

std::vector<double> NodeInfo::get_floats(const std::string& name) const {
  const AttributeValue& v = require(name);
  if (const std::vector<double>* d = std::get_if<std::vector<double>>(&v)) return *d;
  if (const std::vector<int64_t>* i = std::get_if<std::vector<int64_t>>(&v))
    return std::vector<double>(i->begin(), i->end());
  wrong_type(name, "a list of numbers");
}

}  // namespace pyruntime
