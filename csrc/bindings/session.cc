// _core.Session: plain dicts and NumPy arrays in, NumPy arrays out. Arrays cross without a copy or a cast.
#include "runtime/session.h"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <optional>

#include "base/cpu_features.h"
#include "bindings/bindings.h"

namespace py = pybind11;

namespace pyruntime {
namespace {

py::dtype numpy_dtype(DType t) {
  switch (t) {
    case DType::f32:
      return py::dtype::of<float>();
    case DType::u8:
      return py::dtype::of<uint8_t>();
    case DType::s8:
      return py::dtype::of<int8_t>();
    case DType::s32:
      return py::dtype::of<int32_t>();
    default:
      return py::dtype::of<int64_t>();
  }
}

DType dtype_of(const py::array& a, const std::string& what) {
  for (DType t : {DType::f32, DType::u8, DType::s8, DType::s32, DType::s64}) {
    if (a.dtype().equal(numpy_dtype(t))) return t;
  }
  throw Error(what + " has dtype " + py::str(a.dtype()).cast<std::string>() +
              ": expected float32, uint8, int8, int32 or int64");
}

bool is_c_contiguous(const py::array& a) {
  constexpr int kWanted = py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  return (a.flags() & kWanted) == kWanted;
}

void expect_c_contiguous(const py::array& a, const std::string& what) {
  if (!is_c_contiguous(a)) throw Error(what + " is not C-contiguous: pass numpy.ascontiguousarray of it");
}

Shape shape_of(const py::array& a) { return Shape(a.shape(), a.shape() + a.ndim()); }

template <typename T>
T get(const py::dict& d, const char* key, const std::string& what) {
  if (!d.contains(key)) throw Error(what + " lacks '" + key + "'");
  try {
    return d[key].cast<T>();
  } catch (const py::cast_error&) {
    throw Error(what + " has a '" + key + "' of the wrong type");
  }
}

std::string text_of(const py::handle& h, const std::string& what) {
  if (!py::isinstance<py::str>(h)) throw Error(what + " is no string");
  return h.cast<std::string>();
}

int64_t whole_number(const py::handle& h, const std::string& what) {
  try {
    return h.cast<int64_t>();
  } catch (const py::cast_error&) {
    throw Error(what + " holds an integer beyond 64 bits");
  }
}

Value value_from(const std::string& name, const py::dict& d) {
  const std::string what = "value '" + name + "'";
  Value v;
  v.name = name;
  v.dtype = parse_dtype(get<std::string>(d, "dtype", what));
  for (const py::handle& h : get<py::sequence>(d, "shape", what)) {
    Dim dim;
    if (py::isinstance<py::str>(h)) {
      dim.symbol = h.cast<std::string>();
      if (dim.symbol.empty()) throw Error(what + " has a dimension with an empty name");
    } else if (py::isinstance<py::int_>(h)) {
      dim.size = whole_number(h, what);
    } else {
      throw Error(what + " has a dimension that is neither an integer nor a name");
    }
    v.spec.push_back(dim);
  }
  if (d.contains("scale") && !d["scale"].is_none()) {
    v.quantized = true;
    v.scale = static_cast<float>(get<double>(d, "scale", what));
    v.zero_point = get<int32_t>(d, "zero_point", what);
  }
  return v;
}

// [O, C, ...] whose memory is C-contiguous in the order [O, ..., C].
bool is_channels_last(const py::array& a) {
  if (a.ndim() < 3) return false;
  py::ssize_t stride = a.itemsize();
  auto follows = [&](py::ssize_t axis) {  // from the innermost axis outwards
    const bool found = a.strides(axis) == stride;
    stride *= a.shape(axis);
    return found;
  };
  if (!follows(1)) return false;
  for (py::ssize_t axis = a.ndim() - 1; axis >= 2; --axis) {
    if (!follows(axis)) return false;
  }
  return follows(0);
}

Value constant_from(const std::string& name, const py::array& a) {
  const std::string what = "constant '" + name + "'";
  Value v;
  v.name = name;
  v.dtype = dtype_of(a, what);
  v.channels_last = v.dtype == DType::s8 && is_channels_last(a) && (a.flags() & py::array::c_style) == 0;
  if (!v.channels_last) expect_c_contiguous(a, what);
  v.constant = true;
  v.data = a.data();
  v.shape = shape_of(a);
  return v;
}

AttributeValue attribute_from(const py::handle& h, const std::string& what) {
  if (py::isinstance<py::str>(h)) return h.cast<std::string>();
  if (py::isinstance<py::bool_>(h)) return static_cast<int64_t>(h.cast<bool>());
  if (py::isinstance<py::int_>(h)) return whole_number(h, what);
  if (py::isinstance<py::float_>(h)) return h.cast<double>();
  if (!py::isinstance<py::list>(h) && !py::isinstance<py::tuple>(h))
    throw Error(what + " is neither a number, a string nor a list of numbers");
  std::vector<int64_t> integers;
  std::vector<double> numbers;
  for (const py::handle& item : h.cast<py::sequence>()) {
    if (py::isinstance<py::float_>(item)) {
      numbers.push_back(item.cast<double>());
    } else if (py::isinstance<py::int_>(item)) {
      integers.push_back(whole_number(item, what));
      numbers.push_back(static_cast<double>(integers.back()));
    } else {
      throw Error(what + " holds something that is no number");
    }
  }
  if (integers.size() == numbers.size()) return integers;
  return numbers;
}

std::vector<std::string> names_from(const py::sequence& items, const std::string& what) {
  std::vector<std::string> names;
  for (const py::handle& h : items) names.push_back(text_of(h, what));
  return names;
}

NodeSpec node_from(const py::handle& h) {
  if (!py::isinstance<py::dict>(h)) throw Error("a node is no dict");
  const py::dict d = h.cast<py::dict>();
  NodeSpec node;
  node.name = get<std::string>(d, "name", "a node");
  const std::string what = "node '" + node.name + "'";
  node.op = get<std::string>(d, "op", what);
  node.inputs = names_from(get<py::sequence>(d, "inputs", what), what + " has an input that");
  node.outputs = names_from(get<py::sequence>(d, "outputs", what), what + " has an output that");
  for (const auto& item : get<py::dict>(d, "attributes", what)) {
    const std::string name = text_of(item.first, what + " has an attribute name that");
    node.attributes.emplace(name, attribute_from(item.second, what + " attribute '" + name + "'"));
  }
  return node;
}

using Choices = std::map<std::string, std::string>;

std::shared_ptr<const Tuning> make_tuning(const std::optional<Choices>& choices, bool list_candidates) {
  auto tuning = std::make_shared<Tuning>();
  tuning->lists_candidates = list_candidates;
  if (!choices) return tuning;
  for (const auto& [signature, choice] : *choices) tuning->layers.emplace(signature, parse_choice(choice));
  return tuning;
}

std::unique_ptr<Session> make_session(const py::dict& values, const py::dict& constants,
                                      const py::list& nodes, const py::list& inputs, const py::list& outputs,
                                      const std::string& isa, int num_threads, bool profiling,
                                      const std::string& weight_format, const std::optional<Choices>& tuning,
                                      bool list_candidates) {
  std::vector<Value> all;
  for (const auto& item : values) {
    const std::string name = text_of(item.first, "the name of a value");
    if (!py::isinstance<py::dict>(item.second)) throw Error("value '" + name + "' is no dict");
    all.push_back(value_from(name, item.second.cast<py::dict>()));
  }
  // The arrays stay alive as long as the session. They are released under the interpreter lock: sessions die
  // in Python.
  auto arrays = std::make_shared<std::vector<py::array>>();
  for (const auto& item : constants) {
    const std::string name = text_of(item.first, "the name of a constant");
    if (!py::isinstance<py::array>(item.second)) throw Error("constant '" + name + "' is no NumPy array");
    const py::array array = item.second.cast<py::array>();
    all.push_back(constant_from(name, array));
    arrays->push_back(array);
  }
  std::vector<NodeSpec> specs;
  for (const py::handle& h : nodes) specs.push_back(node_from(h));
  Program program =
      build_program(std::move(all), std::move(specs), names_from(inputs, "the name of an input"),
                    names_from(outputs, "the name of an output"));
  program.owner = arrays;
  SessionOptions options;
  options.isa = isa;
  options.num_threads = num_threads;
  options.profiling = profiling;
  options.weight_format = weight_format;
  if (tuning || list_candidates) options.tuning = make_tuning(tuning, list_candidates);
  const py::gil_scoped_release
      release;  // `arrays` outlives it, so that nothing of Python dies without the lock
  return std::make_unique<Session>(std::move(program), options);
}

// Of the builtin dtypes in native byte order there is one object each; others are compared in full.
bool has_dtype(const py::array& a, DType t) {
  const py::dtype wanted = numpy_dtype(t), found = a.dtype();
  return found.is(wanted) || found.equal(wanted);
}

std::vector<Shape> shapes_of(const std::vector<py::array>& arrays) {
  std::vector<Shape> shapes;
  for (const py::array& a : arrays) shapes.push_back(shape_of(a));
  return shapes;
}

// `arrays` are one per input, of its dtype and C-contiguous; the caller keeps them alive.
py::list run_plan(Session& session, const RunPlan& plan, const std::vector<py::array>& arrays) {
  const Program& program = session.program();
  std::vector<const void*> in;
  for (const py::array& a : arrays) in.push_back(a.data());
  py::list results;
  std::vector<void*> out;
  for (size_t i = 0; i < program.outputs.size(); ++i) {
    py::array result(numpy_dtype(program.values[program.outputs[i]].dtype), plan.output_shapes[i]);
    out.push_back(result.mutable_data());
    results.append(std::move(result));
  }
  {
    py::gil_scoped_release release;
    session.run(plan, in.data(), out.data());
  }
  return results;
}

py::list run(Session& session, const py::list& inputs) {
  const Program& program = session.program();
  if (inputs.size() != program.inputs.size())
    throw Error("run got " + std::to_string(inputs.size()) + " inputs: expected " +
                std::to_string(program.inputs.size()));
  std::vector<py::array> arrays;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Value& v = program.values[program.inputs[i]];
    const std::string what = "input '" + v.name + "'";
    if (!py::isinstance<py::array>(inputs[i])) throw Error(what + " is no NumPy array");
    arrays.push_back(inputs[i].cast<py::array>());
    const py::array& a = arrays.back();
    if (!has_dtype(a, v.dtype))
      throw Error(what + " has dtype " + py::str(a.dtype()).cast<std::string>() + ": expected " +
                  py::str(numpy_dtype(v.dtype)).cast<std::string>());
    expect_c_contiguous(a, what);
  }
  const std::vector<Shape> shapes = shapes_of(arrays);
  std::shared_ptr<const RunPlan> plan;
  {
    py::gil_scoped_release release;
    plan = session.plan_for(shapes);
  }
  return run_plan(session, *plan, arrays);
}

// Runs a feed that needs no second look: a dict of exactly the inputs, NumPy arrays as declared, in shapes
// that ran before. None if it is not that; the feed may still be good.
py::object run_again(Session& session, const py::object& feed) {
  const Program& program = session.program();
  if (!PyDict_CheckExact(feed.ptr()) || py::len(feed) != program.inputs.size()) return py::none();
  std::vector<py::array> arrays;
  for (const int input : program.inputs) {
    const Value& v = program.values[input];
    const py::handle given = PyDict_GetItemString(feed.ptr(), v.name.c_str());
    if (!given || !py::isinstance<py::array>(given)) return py::none();
    arrays.push_back(py::reinterpret_borrow<py::array>(given));
    if (!has_dtype(arrays.back(), v.dtype) || !is_c_contiguous(arrays.back())) return py::none();
  }
  const std::shared_ptr<const RunPlan> plan = session.find_plan(shapes_of(arrays));
  if (plan == nullptr) return py::none();
  return run_plan(session, *plan, arrays);
}

py::list kernels(const Session& session) {
  py::list rows;
  for (const KernelReport& r : session.kernels()) {
    py::dict d;
    d["node"] = r.node;
    d["op"] = r.op;
    d["kernel"] = r.kernel;
    d["isa"] = r.isa;
    d["precision"] = r.precision;
    d["bytes"] = r.bytes;
    d["tuned"] = r.tuned;
    rows.append(d);
  }
  return rows;
}

py::list tuning(const Session& session) {
  py::list rows;
  for (const TuningReport& r : session.tuning()) {
    py::list candidates;
    for (const LayerCandidate& c : r.layer->rows) candidates.append(py::make_tuple(c.choice, c.cycles));
    py::dict d;
    d["node"] = r.node;
    d["signature"] = r.layer->signature;
    d["choice"] = r.layer->choice;
    d["tuned"] = r.layer->tuned;
    d["rows"] = candidates;
    d["divisions"] = r.layer->divisions;
    rows.append(d);
  }
  return rows;
}

py::list profile(const Session& session) {
  py::list rows;
  for (const ProfileReport& r : session.profile()) {
    py::dict d;
    d["node"] = r.node;
    d["op"] = r.op;
    d["kernel"] = r.kernel;
    d["calls"] = r.calls;
    d["microseconds"] = static_cast<double>(r.nanoseconds) * 1e-3;
    rows.append(d);
  }
  return rows;
}

}  // namespace

void bind_session(py::module_& m) {
  m.def(
      "check_tuning", [](const Choices& choices) { make_tuning(choices, false); }, py::arg("choices"),
      "Raises CoreError for a choice that this build cannot read.");
  py::class_<Session>(m, "Session",
                      "A program ready to run. Immutable; run() may be called from several threads.")
      .def(py::init(&make_session), py::arg("values"), py::arg("constants"), py::arg("nodes"),
           py::arg("inputs"), py::arg("outputs"), py::arg("isa") = "", py::arg("num_threads") = 0,
           py::arg("profiling") = false, py::arg("weight_format") = "auto", py::arg("tuning") = py::none(),
           py::arg("list_candidates") = false)
      .def("run", &run, py::arg("inputs"),
           "Runs the program on C-contiguous arrays of the declared dtypes; returns new arrays.")
      .def("run_again", &run_again, py::arg("feed"),
           "As `run`, of a dict of exactly the inputs in shapes that ran before; None if it is not that.")
      .def("kernels", &kernels,
           "What runs where: node, op, kernel, isa, precision, bytes of packed weights, tuned.")
      .def("tuning", &tuning,
           "Integer layers of a session with a tuning: node, signature, choice, tuned, rows, divisions.")
      .def(
          "profile", &profile,
          "Times summed over all runs: node, op, kernel, calls, microseconds. The rows sum to the wall time.")
      .def_property_readonly("isa", [](const Session& s) { return isa_name(s.isa()); })
      .def_property_readonly("num_threads", &Session::num_threads);
}

}  // namespace pyruntime
