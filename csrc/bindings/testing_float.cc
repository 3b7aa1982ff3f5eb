// _core.testing, the float and byte-wise families: runs one named row, or "reference", on NumPy arrays. For
// tests and kernel benchmarks. Outputs lie between guard bytes; a kernel that writes outside them is an error
// here.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "bindings/testing_support.h"
#include "kernels/conv_f32/conv_f32.h"
#include "kernels/depthwise_f32/depthwise_f32.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/lut/lut.h"
#include "kernels/pool/pool.h"
#include "kernels/quantize/quantize.h"

namespace py = pybind11;

namespace pyruntime {
namespace {

using namespace testing;  // NOLINT

py::list float_rows(const std::string& family) {
  if (family == "conv_f32") return list_rows(conv_f32_kernels);
  if (family == "depthwise_f32") return list_rows(depthwise_f32_kernels);
  if (family == "pool") return list_rows(pool_kernels);
  if (family == "elementwise") return list_rows(elementwise_kernels);
  if (family == "lut") return list_rows(lut_kernels);
  if (family == "quantize") return list_rows(quantize_kernels);
  throw Error("no kernel family named " + family);
}

void expect(bool condition, const std::string& what) {
  if (!condition) throw Error("testing: " + what);
}

int to_int(py::ssize_t v) { return static_cast<int>(v); }

// x [H, W, pitch] (halo included), w [n, kh, kw, k] with k <= pitch, bias [n], residual [rows, cols, n] or
// None. Returns y [rows, cols, n]; channels outside n_begin..n_end keep the guard pattern.
py::object conv_f32(const std::string& row, const F32& x, const F32& w, const F32& bias, int stride,
                    int dilation, std::optional<F32> residual, float lo, float hi, int n_begin, int n_end,
                    const Mode& mode) {
  expect(x.ndim() == 3 && w.ndim() == 4 && bias.ndim() == 1 && bias.shape(0) == w.shape(0), "conv_f32 ranks");
  const int n = to_int(w.shape(0)), kh = to_int(w.shape(1)), kw = to_int(w.shape(2)), k = to_int(w.shape(3));
  const int rows = (to_int(x.shape(0)) - dilation * (kh - 1) - 1) / stride + 1;
  const int cols = (to_int(x.shape(1)) - dilation * (kw - 1) - 1) / stride + 1;
  const ptrdiff_t col_bytes = x.shape(2) * 4, row_bytes = x.shape(1) * col_bytes;
  expect(k <= x.shape(2) && rows > 0 && cols > 0, "conv_f32 shapes");
  expect(!residual || residual->size() == static_cast<py::ssize_t>(rows) * cols * n,
         "conv_f32 residual shape");

  std::vector<int32_t> taps;
  for (int i = 0; i < kh; ++i)
    for (int j = 0; j < kw; ++j)
      taps.push_back(static_cast<int32_t>(i * dilation * row_bytes + j * dilation * col_bytes));
  Block<float> input(x.data(), static_cast<size_t>(x.size()));
  Block<float> padded_bias((static_cast<size_t>(n) + 63) / 64 * 64);
  for (size_t i = 0; i < padded_bias.count(); ++i)
    padded_bias.data()[i] = i < static_cast<size_t>(n) ? bias.data()[i] : 0.0f;

  ConvF32Args a;
  a.x = input.data();
  a.x_row_stride = row_bytes * stride;
  a.x_col_stride = col_bytes * stride;
  a.tap_offset = taps.data();
  a.taps = kh * kw;
  a.k = k;
  a.rows = rows;
  a.cols = cols;
  a.n = n;
  a.n_begin = n_begin;
  a.n_end = n_end < 0 ? n : n_end;
  a.y_col_stride = static_cast<ptrdiff_t>(n) * 4;
  a.y_row_stride = a.y_col_stride * cols;
  a.bias = padded_bias.data();
  std::unique_ptr<Block<float>> residual_block;
  if (residual) {
    residual_block = std::make_unique<Block<float>>(residual->data(), static_cast<size_t>(residual->size()));
    a.residual = residual_block->data();
    a.residual_col_stride = a.y_col_stride;
    a.residual_row_stride = a.y_row_stride;
  }
  a.lo = lo;
  a.hi = hi;

  const Shape shape = {rows, cols, n};
  if (row == "reference") {
    return call<float>(row, shape, mode, [&](float* y) {
      a.y = y;
      conv_f32_reference(a, w.data());
    });
  }
  int count = 0;
  const ConvF32Kernel* all = conv_f32_kernels(&count);
  const ConvF32Kernel& kernel = find_row(all, count, row);
  Guarded<float> packed(kernel.packed_bytes(n, a.taps, k) / 4);
  kernel.pack(w.data(), n, a.taps, k, packed.data());
  packed.check(row);
  a.w = packed.data();
  return call<float>(row, shape, mode, [&](float* y) {
    a.y = y;
    kernel.run(a);
  });
}

// x [H, W, pitch] (halo included), w [kh, kw, channels], bias [channels]. Returns y [rows, cols, channels].
py::object depthwise_f32(const std::string& row, const F32& x, const F32& w, const F32& bias, int stride,
                         int dilation, float lo, float hi, int channel_begin, int channel_end,
                         const Mode& mode) {
  expect(x.ndim() == 3 && w.ndim() == 3 && bias.ndim() == 1 && bias.shape(0) == w.shape(2),
         "depthwise_f32 ranks");
  DepthwiseF32Args a;
  a.kh = to_int(w.shape(0));
  a.kw = to_int(w.shape(1));
  a.channels = to_int(w.shape(2));
  a.rows = (to_int(x.shape(0)) - dilation * (a.kh - 1) - 1) / stride + 1;
  a.cols = (to_int(x.shape(1)) - dilation * (a.kw - 1) - 1) / stride + 1;
  expect(a.channels <= x.shape(2) && a.rows > 0 && a.cols > 0, "depthwise_f32 shapes");
  const ptrdiff_t col_bytes = x.shape(2) * 4, row_bytes = x.shape(1) * col_bytes;
  Block<float> input(x.data(), static_cast<size_t>(x.size()));
  Block<float> weights(w.data(), static_cast<size_t>(w.size()));
  Block<float> biases(bias.data(), static_cast<size_t>(bias.size()));
  a.x = input.data();
  a.x_row_stride = row_bytes * stride;
  a.x_col_stride = col_bytes * stride;
  a.tap_row_stride = row_bytes * dilation;
  a.tap_col_stride = col_bytes * dilation;
  a.channel_begin = channel_begin;
  a.channel_end = channel_end < 0 ? a.channels : channel_end;
  a.w = weights.data();
  a.bias = biases.data();
  a.y_col_stride = static_cast<ptrdiff_t>(a.channels) * 4;
  a.y_row_stride = a.y_col_stride * a.cols;
  a.lo = lo;
  a.hi = hi;
  void (*run)(const DepthwiseF32Args&) = depthwise_f32_reference;
  if (row != "reference") {
    int count = 0;
    const DepthwiseF32Kernel* all = depthwise_f32_kernels(&count);
    run = find_row(all, count, row).run;
  }
  return call<float>(row, {a.rows, a.cols, a.channels}, mode, [&](float* y) {
    a.y = y;
    run(a);
  });
}

// x [count, channels]; returns y [channels], or of x [pixels, count, channels] a run of pixels. u8 averages
// use zero_point_x, multiplier, zero_point_y; f32 the divisor.
py::object pool(const std::string& row, const std::string& op, const py::array& x, int zero_point_x,
                float multiplier, float zero_point_y, float divisor, const Mode& mode) {
  const bool runs = x.ndim() == 3;
  expect((runs || x.ndim() == 2) && x.shape(runs) > 0, "pool takes x [count, channels] or a run of them");
  const PoolKernels& k = find_row(pool_kernels, pool_reference, row);
  const int pixels = runs ? to_int(x.shape(0)) : 1;
  const int count = to_int(x.shape(runs)), channels = to_int(x.shape(1 + runs));
  const PoolRun run = {count, channels, pixels, static_cast<ptrdiff_t>(count) * channels, channels};
  const Shape shape = runs ? Shape{pixels, channels} : Shape{channels};
  if (py::isinstance<U8>(x)) {
    const U8 values = py::cast<U8>(x);
    Block<uint8_t> block(values.data(), static_cast<size_t>(values.size()));
    std::vector<const uint8_t*> cells;
    for (int i = 0; i < count; ++i) cells.push_back(block.data() + static_cast<ptrdiff_t>(i) * channels);
    return call<uint8_t>(row, shape, mode, [&](uint8_t* y) {
      if (op == "max") return k.max_u8(run, cells.data(), y);
      if (op == "average") return k.average_u8(run, cells.data(), zero_point_x, multiplier, zero_point_y, y);
      expect(op == "global_average" && !runs, "pool op " + op);
      k.global_average_u8(block.data(), channels, count, channels, zero_point_x, multiplier, zero_point_y, y);
    });
  }
  expect(py::isinstance<F32>(x), "pool takes uint8 or float32");
  const F32 values = py::cast<F32>(x);
  Block<float> block(values.data(), static_cast<size_t>(values.size()));
  std::vector<const float*> cells;
  for (int i = 0; i < count; ++i) cells.push_back(block.data() + static_cast<ptrdiff_t>(i) * channels);
  return call<float>(row, shape, mode, [&](float* y) {
    if (op == "max") return k.max_f32(run, cells.data(), y);
    expect(op == "average", "pool op " + op);
    k.average_f32(run, cells.data(), divisor, y);
  });
}

// Second operand of a binary operator: as long as a, or one value.
template <class Array>
int step_of(const Array& a, const Array& b) {
  expect(b.size() == a.size() || b.size() == 1, "b has as many values as a, or one");
  return b.size() == a.size() && a.size() != 1 ? 1 : 0;
}

template <class T, class Array, class Kernel>
py::object binary(const std::string& row, const Array& a, const Array& b, const Mode& mode,
                  const Kernel& kernel) {
  const int step = step_of(a, b);
  const size_t n = static_cast<size_t>(a.size());
  Block<T> left(a.data(), n), right(b.data(), static_cast<size_t>(b.size()));
  return call<T>(
      row, {a.size()}, mode,
      [&](T* y) { kernel(n, mode.in_place ? y : static_cast<const T*>(left.data()), right.data(), step, y); },
      mode.in_place ? left.data() : nullptr);
}

template <class To, class From, class Array, class Kernel>
py::object unary(const std::string& row, const Array& x, const Mode& mode, const Kernel& kernel) {
  const size_t n = static_cast<size_t>(x.size());
  Block<From> block(x.data(), n);
  if constexpr (std::is_same_v<To, From>) {
    if (mode.in_place) return call<To>(row, {x.size()}, mode, [&](To* y) { kernel(n, y, y); }, block.data());
  }
  return call<To>(row, {x.size()}, mode, [&](To* y) { kernel(n, block.data(), y); });
}

const ElementwiseKernels& elementwise(const std::string& row) {
  return find_row(elementwise_kernels, elementwise_reference, row);
}

const std::map<std::string, BinaryF32> kBinary = {{"add", BinaryF32::add},
                                                  {"sub", BinaryF32::sub},
                                                  {"mul", BinaryF32::mul},
                                                  {"div", BinaryF32::div},
                                                  {"prelu", BinaryF32::prelu}};

const std::map<std::string, UnaryF32> kUnary = {{"relu", UnaryF32::relu},
                                                {"clip", UnaryF32::clip},
                                                {"leaky_relu", UnaryF32::leaky_relu},
                                                {"sigmoid", UnaryF32::sigmoid},
                                                {"hard_sigmoid", UnaryF32::hard_sigmoid},
                                                {"hard_swish", UnaryF32::hard_swish},
                                                {"tanh", UnaryF32::tanh},
                                                {"gelu", UnaryF32::gelu},
                                                {"gelu_tanh", UnaryF32::gelu_tanh},
                                                {"silu", UnaryF32::silu},
                                                {"exp", UnaryF32::exp},
                                                {"sqrt", UnaryF32::sqrt},
                                                {"erf", UnaryF32::erf},
                                                {"neg", UnaryF32::neg},
                                                {"abs", UnaryF32::abs},
                                                {"reciprocal", UnaryF32::reciprocal}};

py::object add_u8(const std::string& row, const U8& a, const U8& b, float a_multiplier, float b_multiplier,
                  float offset, float lo, float hi, const Mode& mode) {
  const AddU8Params p{a_multiplier, b_multiplier, offset, lo, hi};
  const auto kernel = elementwise(row).add_u8;
  return binary<uint8_t>(row, a, b, mode,
                         [&](size_t n, const uint8_t* l, const uint8_t* r, int step, uint8_t* y) {
                           kernel(n, l, r, step, p, y);
                         });
}

py::object mul_u8(const std::string& row, const U8& a, const U8& b, int a_zero_point, int b_zero_point,
                  float multiplier, float offset, float lo, float hi, const Mode& mode) {
  const MulU8Params p{a_zero_point, b_zero_point, multiplier, offset, lo, hi};
  const auto kernel = elementwise(row).mul_u8;
  return binary<uint8_t>(row, a, b, mode,
                         [&](size_t n, const uint8_t* l, const uint8_t* r, int step, uint8_t* y) {
                           kernel(n, l, r, step, p, y);
                         });
}

py::object binary_f32(const std::string& row, const std::string& op, const F32& a, const F32& b, float lo,
                      float hi, const Mode& mode) {
  const BinaryF32 which = kBinary.at(op);
  const auto kernel = elementwise(row).binary_f32;
  return binary<float>(row, a, b, mode, [&](size_t n, const float* l, const float* r, int step, float* y) {
    kernel(which, n, l, r, step, lo, hi, y);
  });
}

py::object unary_f32(const std::string& row, const std::string& function, const F32& x, float alpha,
                     float beta, const Mode& mode) {
  const UnaryF32 which = kUnary.at(function);
  const auto kernel = elementwise(row).unary_f32;
  return unary<float, float>(
      row, x, mode, [&](size_t n, const float* in, float* y) { kernel(which, n, in, alpha, beta, y); });
}

py::object softmax_f32(const std::string& row, const F32& x, const Mode& mode) {
  return unary<float, float>(row, x, mode, elementwise(row).softmax_f32);
}

py::object lut(const std::string& row, const U8& x, const U8& table, const Mode& mode) {
  expect(table.size() == 256, "lut takes a table of 256 bytes");
  Block<uint8_t> entries(table.data(), 256);
  const auto kernel = find_row(lut_kernels, lut_reference, row).run;
  return unary<uint8_t, uint8_t>(
      row, x, mode, [&](size_t n, const uint8_t* in, uint8_t* y) { kernel(n, in, entries.data(), y); });
}

py::object quantize(const std::string& row, const F32& x, float scale, int zero_point, int flip,
                    const Mode& mode) {
  const auto kernel = find_row(quantize_kernels, quantize_reference, row).quantize;
  return unary<uint8_t, float>(row, x, mode, [&](size_t n, const float* in, uint8_t* y) {
    kernel(n, in, scale, zero_point, static_cast<uint8_t>(flip), y);
  });
}

py::object dequantize(const std::string& row, const U8& x, float scale, int zero_point, int flip,
                      const Mode& mode) {
  const auto kernel = find_row(quantize_kernels, quantize_reference, row).dequantize;
  return unary<float, uint8_t>(row, x, mode, [&](size_t n, const uint8_t* in, float* y) {
    kernel(n, in, scale, zero_point, static_cast<uint8_t>(flip), y);
  });
}

// x [channels, n] -> [n, pitch]; bytes past `channels` of each pixel keep the guard pattern 0xA5.
py::object planes_to_pixels(const std::string& row, const F32& x, float scale, int zero_point, int pitch,
                            const Mode& mode) {
  expect(x.ndim() == 2 && x.shape(0) <= pitch, "planes_to_pixels takes x [channels, n], channels <= pitch");
  const auto kernel = find_row(quantize_kernels, quantize_reference, row).planes_to_pixels;
  Block<float> block(x.data(), static_cast<size_t>(x.size()));
  const size_t n = static_cast<size_t>(x.shape(1));
  return call<uint8_t>(row, {x.shape(1), pitch}, mode, [&](uint8_t* y) {
    kernel(n, to_int(x.shape(0)), block.data(), x.shape(1), scale, zero_point, y, pitch);
  });
}

}  // namespace

void bind_testing_float(py::module_& m) {
  py::module_ t = m.def_submodule("testing");
  const float inf = std::numeric_limits<float>::infinity();
  py::class_<Mode>(t, "Mode", "How a row is called: flush_denormals, repeat (> 0: also time it), in_place.")
      .def(py::init([](bool flush_denormals, int repeat, bool in_place) {
             return Mode{flush_denormals, repeat, in_place};
           }),
           py::kw_only(), py::arg("flush_denormals") = false, py::arg("repeat") = 0,
           py::arg("in_place") = false);
  const auto mode = py::arg("mode") = Mode();
  using py::arg;
  t.def("float_rows", &float_rows, arg("family"), "Rows of a family: dicts of name, isa, usable.");
  t.def("conv_f32", &conv_f32, arg("row"), arg("x"), arg("w"), arg("bias"), arg("stride") = 1,
        arg("dilation") = 1, arg("residual") = py::none(), arg("lo") = -inf, arg("hi") = inf,
        arg("n_begin") = 0, arg("n_end") = -1, mode);
  t.def("depthwise_f32", &depthwise_f32, arg("row"), arg("x"), arg("w"), arg("bias"), arg("stride") = 1,
        arg("dilation") = 1, arg("lo") = -inf, arg("hi") = inf, arg("channel_begin") = 0,
        arg("channel_end") = -1, mode);
  t.def("pool", &pool, arg("row"), arg("op"), arg("x"), arg("zero_point_x") = 0, arg("multiplier") = 1.0f,
        arg("zero_point_y") = 0.0f, arg("divisor") = 1.0f, mode);
  t.def("add_u8", &add_u8, arg("row"), arg("a"), arg("b"), arg("a_multiplier"), arg("b_multiplier"),
        arg("offset"), arg("lo") = 0.0f, arg("hi") = 255.0f, mode);
  t.def("mul_u8", &mul_u8, arg("row"), arg("a"), arg("b"), arg("a_zero_point"), arg("b_zero_point"),
        arg("multiplier"), arg("offset"), arg("lo") = 0.0f, arg("hi") = 255.0f, mode);
  t.def("binary_f32", &binary_f32, arg("row"), arg("op"), arg("a"), arg("b"), arg("lo") = -inf,
        arg("hi") = inf, mode);
  t.def("unary_f32", &unary_f32, arg("row"), arg("function"), arg("x"), arg("alpha") = 0.0f,
        arg("beta") = 0.0f, mode);
  t.def("softmax_f32", &softmax_f32, arg("row"), arg("x"), mode);
  t.def("lut", &lut, arg("row"), arg("x"), arg("table"), mode);
  t.def("quantize", &quantize, arg("row"), arg("x"), arg("scale"), arg("zero_point"), arg("flip") = 0, mode);
  t.def("dequantize", &dequantize, arg("row"), arg("x"), arg("scale"), arg("zero_point"), arg("flip") = 0,
        mode);
  t.def("planes_to_pixels", &planes_to_pixels, arg("row"), arg("x"), arg("scale"), arg("zero_point"),
        arg("pitch"), mode);
}

}  // namespace pyruntime
