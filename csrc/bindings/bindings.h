// The parts of the module, one function per source file.
#pragma once

#include <pybind11/pybind11.h>

namespace pyruntime {

void bind_session(pybind11::module_& m);
void bind_entropy(pybind11::module_& m);
void bind_registry(pybind11::module_& m);
void bind_testing(pybind11::module_& m);
void bind_testing_float(pybind11::module_& m);

}  // namespace pyruntime
