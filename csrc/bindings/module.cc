// The module pyruntime._core: the session, what this CPU can run, and single kernels for tests.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "base/cpu_features.h"
#include "base/error.h"
#include "bindings/bindings.h"

namespace py = pybind11;
using namespace pyruntime;

namespace {

std::vector<std::string> available_names() {
  std::vector<std::string> names;
  for (Isa isa : available_isas()) names.emplace_back(isa_name(isa));
  return names;
}

py::list isa_report() {
  py::list rows;
  for (Isa isa : known_isas()) {
    std::string reason;
    const bool usable = isa_usable(isa, &reason);
    py::dict row;
    row["name"] = isa_name(isa);
    row["usable"] = usable;
    row["reason"] = usable ? "" : reason;
    rows.append(row);
  }
  return rows;
}

py::dict features() {
  const CpuFeatures& f = cpu_features();
  py::dict d;
  d["avx2"] = f.avx2;
  d["avxvnni"] = f.avxvnni;
  d["avx512vnni"] = f.avx512vnni;
  d["amxint8"] = f.amxint8;
  d["neondot"] = f.neondot;
  d["neoni8mm"] = f.neoni8mm;
  d["amx_reason"] = f.amx_reason;
  d["brand"] = f.brand;
  d["model"] = f.model;
  return d;
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "Core of pyruntime: plans and runs programs on the CPU. Use pyruntime.InferenceSession.";
  py::register_exception<Error>(m, "CoreError", PyExc_RuntimeError);
  m.def("available_isas", &available_names, "Usable instruction sets, weakest first.");
  m.def("isa_report", &isa_report, "One dict per known instruction set: name, usable, reason.");
  m.def("cpu_features", &features, "What was detected of this CPU.");
  bind_registry(m);
  bind_session(m);
  bind_entropy(m);
  bind_testing(m);
  bind_testing_float(m);
}
