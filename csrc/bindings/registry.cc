// registry(): every kernel row of this build.
#include "base/cpu_features.h"
#include "bindings/bindings.h"
#include "kernels/conv_f32/conv_f32.h"
#include "kernels/conv_int8/conv_int8.h"
#include "kernels/depthwise_f32/depthwise_f32.h"
#include "kernels/depthwise_int8/depthwise_int8.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/layer_norm/layer_norm.h"
#include "kernels/lut/lut.h"
#include "kernels/matmul_int8/matmul_int8.h"
#include "kernels/pool/pool.h"
#include "kernels/quantize/quantize.h"

namespace py = pybind11;

namespace pyruntime {
namespace {

template <typename Row>
const char* format_of(const Row&) {
  return "";
}
const char* format_of(const ConvInt8Kernel& row) { return weight_format_name(row.format); }

template <typename Row>
void append(py::list& rows, const char* family, const Row* (*list)(int*)) {
  int count = 0;
  const Row* row = list(&count);
  for (int i = 0; i < count; ++i) {
    py::dict d;
    d["family"] = family;
    d["name"] = row[i].name;
    d["isa"] = isa_name(row[i].isa);
    d["format"] = format_of(row[i]);
    d["usable"] = isa_usable(row[i].isa, nullptr);
    rows.append(d);
  }
}

py::list registry() {
  py::list rows;
  append(rows, "conv_int8", conv_int8_kernels);
  append(rows, "depthwise_int8", depthwise_int8_kernels);
  append(rows, "conv_f32", conv_f32_kernels);
  append(rows, "depthwise_f32", depthwise_f32_kernels);
  append(rows, "elementwise", elementwise_kernels);
  append(rows, "layer_norm", layer_norm_kernels);
  append(rows, "lut", lut_kernels);
  append(rows, "matmul_int8", matmul_int8_kernels);
  append(rows, "pool", pool_kernels);
  append(rows, "quantize", quantize_kernels);
  return rows;
}

}  // namespace

void bind_registry(py::module_& m) {
  m.def("registry", &registry,
        "One dict per kernel row of this build: family, name, isa, format (of weights), usable (here).");
}

}  // namespace pyruntime
