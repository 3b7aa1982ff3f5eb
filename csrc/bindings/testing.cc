// _core.testing: runs one named kernel row, or the reference, on NumPy arrays. For tests and kernel
// benchmarks only: the caller vouches for offsets, strides and slack, as a plan does.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "base/cpu_features.h"
#include "base/error.h"
#include "base/thread_pool.h"
#include "kernels/conv_int8/conv_int8.h"
#include "kernels/conv_int8/int4.h"
#include "kernels/conv_int8/winograd.h"
#include "kernels/depthwise_int8/depthwise_int8.h"
#include "runtime/session.h"

namespace py = pybind11;

namespace pyruntime {
namespace {

using U8 = py::array_t<uint8_t, py::array::c_style>;
using S8 = py::array_t<int8_t, py::array::c_style>;

template <typename T>
class AlignedCopy {  // 64-byte aligned, zero-filled, with 64 elements of padding
 public:
  AlignedCopy() = default;
  explicit AlignedCopy(size_t count) : storage_((count + 64) * sizeof(T) + 64, 0) {
    const size_t address = reinterpret_cast<size_t>(storage_.data());
    data_ = reinterpret_cast<T*>(storage_.data() + (64 - address % 64) % 64);
  }
  AlignedCopy(const AlignedCopy&) = delete;
  AlignedCopy& operator=(const AlignedCopy&) = delete;
  T* data() { return data_; }

 private:
  std::vector<uint8_t> storage_;
  T* data_ = nullptr;
};

template <typename T>
const T* array_of(const py::dict& arguments, const char* key, size_t count) {
  const py::object item = arguments[key];
  if (!py::isinstance<py::array_t<T>>(item))
    throw Error(std::string(key) + ": array of another dtype expected");
  const auto array = py::reinterpret_borrow<py::array_t<T>>(item);
  if (static_cast<size_t>(array.size()) < count) throw Error(std::string(key) + ": too few elements");
  return array.data();
}

template <typename T>
T number(const py::dict& arguments, const char* key, T fallback) {
  return arguments.contains(key) ? arguments[key].template cast<T>() : fallback;
}

// The per-channel arrays are copied with the padding that kernels may read.
struct RequantizeArguments {
  AlignedCopy<int32_t> acc_init;
  AlignedCopy<float> multiplier, offset;
  Requantize value;

  RequantizeArguments(const py::dict& a, int n) : acc_init(n), multiplier(n), offset(n) {
    const size_t count = static_cast<size_t>(n);
    std::memcpy(acc_init.data(), array_of<int32_t>(a, "acc_init", count), count * 4);
    std::memcpy(multiplier.data(), array_of<float>(a, "multiplier", count), count * 4);
    std::memcpy(offset.data(), array_of<float>(a, "offset", count), count * 4);
    value.acc_init = acc_init.data();
    value.multiplier = multiplier.data();
    value.offset = offset.data();
    value.lo = number(a, "lo", 0.0f);
    value.hi = number(a, "hi", 255.0f);
    value.f32_output = number(a, "f32_output", false);
    if (a.contains("residual")) {
      value.residual = array_of<uint8_t>(a, "residual", 1) + number<ptrdiff_t>(a, "residual_offset", 0);
      value.residual_row_stride = number<ptrdiff_t>(a, "residual_row_stride", 0);
      value.residual_col_stride = number<ptrdiff_t>(a, "residual_col_stride", 0);
    }
    value.a_multiplier = number(a, "a_multiplier", 1.0f);
    value.b_multiplier = number(a, "b_multiplier", 0.0f);
    value.add_offset = number(a, "add_offset", 0.0f);
    value.add_lo = number(a, "add_lo", 0.0f);
    value.add_hi = number(a, "add_hi", 255.0f);
  }
};

// Fastest of `repeat` calls in seconds, in groups of `inner` calls so that the clock is read seldom.
template <typename Function>
double time_best(const Function& function, int repeat, int inner) {
  py::gil_scoped_release release;
  double best = 1e30;
  for (int i = 0; i < repeat; ++i) {
    const auto start = std::chrono::steady_clock::now();
    for (int j = 0; j < inner; ++j) function();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    if (elapsed.count() / inner < best) best = elapsed.count() / inner;
  }
  return best;
}

template <typename Kernel>
const Kernel& find_kernel(const Kernel* kernels, int count, const std::string& name) {
  for (int i = 0; i < count; ++i) {
    if (name == kernels[i].name) {
      std::string why;
      if (!isa_usable(kernels[i].isa, &why)) throw Error(name + ": " + why);
      return kernels[i];
    }
  }
  throw Error("no kernel row is called '" + name + "'");
}

// Registry and test-only rows.
std::vector<ConvInt8Kernel> all_conv_int8() {
  int count = 0, test_count = 0;
  const ConvInt8Kernel* kernels = conv_int8_kernels(&count);
  const ConvInt8Kernel* test_kernels = conv_int8_test_kernels(&test_count);
  std::vector<ConvInt8Kernel> all(kernels, kernels + count);
  all.insert(all.end(), test_kernels, test_kernels + test_count);
  return all;
}

py::list list_conv_int8() {
  py::list rows;
  for (const ConvInt8Kernel& kernel : all_conv_int8()) {
    py::dict row;
    row["name"] = kernel.name;
    row["isa"] = isa_name(kernel.isa);
    row["format"] = weight_format_name(kernel.format);
    row["n_block"] = kernel.n_block;
    row["usable"] = isa_usable(kernel.isa, nullptr);
    rows.append(row);
  }
  return rows;
}

bool fits_winograd(const ConvInt8Args& args, const ConvInt8Weights& weights) {
  int64_t largest = 0;
  for (int o = 0; o < weights.n; ++o) {
    const int64_t per_output = static_cast<int64_t>(weights.taps) * weights.k;
    int64_t positive = 0, negative = 0;
    for (const int8_t *w = weights.w + o * per_output, *end = w + per_output; w < end; ++w)
      (*w > 0 ? positive : negative) += *w;
    largest = std::max({largest, positive, -negative});
  }
  if (!conv_int8::fits_winograd(weights.taps, largest)) return false;
  for (int t = 0; t < weights.taps; ++t) {
    const ptrdiff_t offset = t / 3 * args.x_row_stride + t % 3 * args.x_col_stride;
    if (args.tap_offset[t] != args.tap_offset[0] + offset) return false;
  }
  return true;
}

double run_conv_int8(const std::string& name, const U8& x, const S8& w, py::array& y, const py::dict& a,
                     int repeat, int inner) {
  if (w.ndim() != 3) throw Error("w: expected [n][taps][k]");
  const ConvInt8Weights weights{w.data(), static_cast<int>(w.shape(0)), static_cast<int>(w.shape(1)),
                                static_cast<int>(w.shape(2))};
  const RequantizeArguments requantize(a, weights.n);
  ConvInt8Args args;
  args.x = x.data() + number<ptrdiff_t>(a, "x_offset", 0);
  args.x_row_stride = number<ptrdiff_t>(a, "x_row_stride", 0);
  args.x_col_stride = number<ptrdiff_t>(a, "x_col_stride", 0);
  args.tap_offset = array_of<int32_t>(a, "tap_offset", static_cast<size_t>(weights.taps));
  args.taps = weights.taps;
  args.k = weights.k;
  args.rows = number(a, "rows", 1);
  args.cols = number(a, "cols", 1);
  args.n = weights.n;
  args.n_begin = number(a, "n_begin", 0);
  args.n_end = number(a, "n_end", weights.n);
  args.y = static_cast<uint8_t*>(y.mutable_data()) + number<ptrdiff_t>(a, "y_offset", 0);
  args.y_row_stride = number<ptrdiff_t>(a, "y_row_stride", 0);
  args.y_col_stride = number<ptrdiff_t>(a, "y_col_stride", 0);
  args.requantize = requantize.value;
  if (name == "reference") {
    return time_best([&] { conv_int8_reference(args, weights.w); }, repeat, inner);
  }
  const std::vector<ConvInt8Kernel> kernels = all_conv_int8();
  const ConvInt8Kernel& kernel = find_kernel(kernels.data(), static_cast<int>(kernels.size()), name);
  if (kernel.format == WeightFormat::int4 && !conv_int8::fits_int4(weights))
    throw Error(name + ": weights that do not fit 4 bits");
  if (kernel.format == WeightFormat::winograd && !fits_winograd(args, weights))
    throw Error(name + ": not the window, or the weights, of a row of format winograd");
  AlignedCopy<uint8_t> packed(kernel.packed_bytes(weights)), scratch(kernel.scratch_bytes(args));
  kernel.pack(weights, packed.data());
  args.w = packed.data();
  args.scratch = scratch.data();
  return time_best([&] { kernel.run(args); }, repeat, inner);
}

double cost_conv_int8(const std::string& name, const S8& w, double density,
                      const std::array<int64_t, 3>& grid, bool window) {
  const std::vector<ConvInt8Kernel> kernels = all_conv_int8();
  const ConvInt8Weights weights{w.data(), static_cast<int>(w.shape(0)), static_cast<int>(w.shape(1)),
                                static_cast<int>(w.shape(2))};
  return find_kernel(kernels.data(), static_cast<int>(kernels.size()), name)
      .cost(weights, density, {grid[0], grid[1], grid[2], window});
}

py::list list_depthwise_int8() {
  int count = 0;
  const DepthwiseInt8Kernel* kernels = depthwise_int8_kernels(&count);
  py::list rows;
  for (int i = 0; i < count; ++i) {
    py::dict row;
    row["name"] = kernels[i].name;
    row["isa"] = isa_name(kernels[i].isa);
    row["usable"] = isa_usable(kernels[i].isa, nullptr);
    rows.append(row);
  }
  return rows;
}

// None if the row does not support the window.
py::object run_depthwise_int8(const std::string& name, const U8& x, const S8& w, py::array& y,
                              const py::dict& a, int repeat, int inner) {
  if (w.ndim() != 3) throw Error("w: expected [channels][kh][kw]");
  DepthwiseInt8Args args;
  args.channels = static_cast<int>(w.shape(0));
  args.kh = static_cast<int>(w.shape(1));
  args.kw = static_cast<int>(w.shape(2));
  const RequantizeArguments requantize(a, args.channels);
  args.x = x.data() + number<ptrdiff_t>(a, "x_offset", 0);
  args.x_row_stride = number<ptrdiff_t>(a, "x_row_stride", 0);
  args.x_col_stride = number<ptrdiff_t>(a, "x_col_stride", 0);
  args.tap_row_stride = number<ptrdiff_t>(a, "tap_row_stride", 0);
  args.tap_col_stride = number<ptrdiff_t>(a, "tap_col_stride", 0);
  args.rows = number(a, "rows", 1);
  args.cols = number(a, "cols", 1);
  args.channel_begin = number(a, "channel_begin", 0);
  args.channel_end = number(a, "channel_end", args.channels);
  args.y = static_cast<uint8_t*>(y.mutable_data()) + number<ptrdiff_t>(a, "y_offset", 0);
  args.y_row_stride = number<ptrdiff_t>(a, "y_row_stride", 0);
  args.y_col_stride = number<ptrdiff_t>(a, "y_col_stride", 0);
  args.requantize = requantize.value;
  if (name == "reference") {
    return py::float_(time_best([&] { depthwise_int8_reference(args, w.data()); }, repeat, inner));
  }
  int count = 0;
  const DepthwiseInt8Kernel* kernels = depthwise_int8_kernels(&count);
  const DepthwiseInt8Kernel& kernel = find_kernel(kernels, count, name);
  if (!kernel.supports(args.kh, args.kw)) return py::none();
  AlignedCopy<uint8_t> packed(kernel.packed_bytes(args.channels, args.kh, args.kw));
  kernel.pack(w.data(), args.channels, args.kh, args.kw, packed.data());
  args.w = packed.data();
  return py::float_(time_best([&] { kernel.run(args); }, repeat, inner));
}

// Runs the session `times` times on the same arrays, whose dtypes and shapes are the caller's to get right.
void run_session(Session& session, const std::vector<py::array>& inputs, std::vector<py::array> outputs,
                 int times) {
  std::vector<Shape> shapes;
  std::vector<const void*> in;
  std::vector<void*> out;
  for (const py::array& a : inputs) {
    shapes.emplace_back(a.shape(), a.shape() + a.ndim());
    in.push_back(a.data());
  }
  for (py::array& a : outputs) out.push_back(a.mutable_data());
  const py::gil_scoped_release release;
  for (int i = 0; i < times; ++i) session.run(*session.plan_for(shapes), in.data(), out.data());
}

// Each of `callers` threads shares out jobs of `tasks[i]` tasks, one after the other, on one pool. Returns
// how many went wrong: a task not run exactly once, or two at once with the same thread index. A negative
// number is a rest of so many microseconds, in which workers fall asleep.
int count_task_faults(int num_threads, const std::vector<int>& tasks, int callers) {
  const py::gil_scoped_release release;
  ThreadPool pool(num_threads);
  std::atomic<int> faults{0};
  auto call = [&] {
    for (const int count : tasks) {
      if (count < 0) {
        std::this_thread::sleep_for(std::chrono::microseconds(-count));
        continue;
      }
      std::vector<std::atomic<int>> runs(static_cast<size_t>(count)),
          busy(static_cast<size_t>(pool.num_threads()));
      pool.parallel_for(count, [&](int task, int thread) {
        if (busy.at(thread).fetch_add(1) != 0) faults.fetch_add(1);
        runs.at(task).fetch_add(1);
        for (volatile int i = 0; i < 100 * (task % 5);) i = i + 1;
        busy[thread].fetch_sub(1);
      });
      for (const std::atomic<int>& times : runs) faults.fetch_add(times.load() != 1);
    }
  };
  std::vector<std::thread> others;
  for (int i = 1; i < callers; ++i) others.emplace_back(call);
  call();
  for (std::thread& thread : others) thread.join();
  return faults.load();
}

}  // namespace

void bind_testing(py::module_& m) {
  py::module_ testing = m.def_submodule("testing", "Runs single kernels; for tests and benchmarks.");
  testing.def("conv_int8_kernels", &list_conv_int8);
  testing.def(
      "run_conv_int8", &run_conv_int8, py::arg("name"), py::arg("x").noconvert(), py::arg("w").noconvert(),
      py::arg("y").noconvert(), py::arg("arguments"), py::arg("repeat") = 1, py::arg("inner") = 1,
      "Runs a row (or 'reference'); `arguments` holds the fields of ConvInt8Args and Requantize by name, "
      "x_offset, y_offset and residual_offset in bytes. Returns the seconds of the fastest of `repeat` "
      "groups of `inner` calls, per call.");
  testing.def("cost_conv_int8", &cost_conv_int8, py::arg("name"), py::arg("w").noconvert(),
              py::arg("density"), py::arg("grid"), py::arg("window") = false,
              "Cycles for a grid of (images, rows, cols) output pixels.");
  testing.def(
      "fits_int4",
      [](const S8& w) {
        return conv_int8::fits_int4({w.data(), static_cast<int>(w.shape(0)), static_cast<int>(w.shape(1)),
                                     static_cast<int>(w.shape(2))});
      },
      py::arg("w").noconvert(), "Whether weights [n][taps][k] fit the rows of format int4.");
  testing.def("run_session", &run_session, py::arg("session"), py::arg("inputs"), py::arg("outputs"),
              py::arg("times"),
              "Runs a session on the same arrays several times; counts no Python in between.");
  testing.def("count_task_faults", &count_task_faults, py::arg("num_threads"), py::arg("tasks"),
              py::arg("callers"), "Jobs that a thread pool ran wrongly, of several callers at once.");
  testing.def("depthwise_int8_kernels", &list_depthwise_int8);
  testing.def("run_depthwise_int8", &run_depthwise_int8, py::arg("name"), py::arg("x").noconvert(),
              py::arg("w").noconvert(), py::arg("y").noconvert(), py::arg("arguments"), py::arg("repeat") = 1,
              py::arg("inner") = 1, "As run_conv_int8; None if the row does not support the window.");
}

}  // namespace pyruntime
