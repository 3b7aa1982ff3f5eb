// entropy.encode and entropy.decode: arrays in, arrays out.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <optional>

#include "base/cpu_features.h"
#include "base/error.h"
#include "bindings/bindings.h"
#include "entropy/rans.h"

namespace py = pybind11;

namespace pyruntime {
namespace {

using Bytes = py::array_t<uint8_t, py::array::c_style>;

py::array encode_block(const Bytes& head, const Bytes& symbols) {
  if (head.ndim() != 1 || symbols.ndim() != 2)
    throw Error("entropy.encode: expected head [n] and symbols [rows, columns]");
  std::vector<uint8_t> block;
  {
    const uint8_t* head_data = head.data();
    const uint8_t* symbol_data = symbols.data();
    const size_t head_size = head.size(), rows = symbols.shape(0), columns = symbols.shape(1);
    py::gil_scoped_release release;
    block = entropy::encode(head_data, head_size, symbol_data, rows, columns);
  }
  Bytes result(static_cast<py::ssize_t>(block.size()));
  std::copy(block.begin(), block.end(), result.mutable_data());
  return std::move(result);
}

py::array decode_block(const Bytes& block, size_t rows, size_t columns, const std::optional<Bytes>& out,
                       const std::string& isa_name) {
  if (block.ndim() != 1) throw Error("entropy.decode: expected a block [n]");
  const std::vector<py::ssize_t> shape{static_cast<py::ssize_t>(rows), static_cast<py::ssize_t>(columns)};
  if (out && (out->ndim() != 2 || out->shape(0) != shape[0] || out->shape(1) != shape[1]))
    throw Error("entropy.decode: out has another shape than the symbols");
  const Isa isa = resolve_isa(isa_name);
  Bytes result = out ? *out : Bytes(shape);
  {
    const uint8_t* data = block.data();
    uint8_t* symbols = result.mutable_data();
    const size_t size = block.size();
    py::gil_scoped_release release;
    entropy::decode(data, size, symbols, rows, columns, isa);
  }
  return std::move(result);
}

}  // namespace

void bind_entropy(py::module_& m) {
  py::module_ entropy = m.def_submodule("entropy", "Entropy-coded blocks (docs/format.md, section 4).");
  entropy.def("encode", &encode_block, py::arg("head"), py::arg("symbols"),
              "The block of symbols u8 [rows, columns] under the model that the head states.");
  entropy.def("decode", &decode_block, py::arg("block"), py::arg("rows"), py::arg("columns"),
              py::arg("out").noconvert() = py::none(), py::arg("isa") = "",
              "The symbols u8 [rows, columns] of a block, in `out` if that is given, with instructions up to "
              "`isa`.");
}

}  // namespace pyruntime
