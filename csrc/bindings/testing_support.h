// Helpers of the kernel test bindings: guarded outputs, exact-size inputs, the call itself, row lookup.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "base/cpu_features.h"
#include "base/error.h"

namespace py = pybind11;

namespace pyruntime {
namespace testing {

using F32 = py::array_t<float, py::array::c_style>;
using U8 = py::array_t<uint8_t, py::array::c_style>;
using Shape = std::vector<py::ssize_t>;

// How to call: flush subnormals as a session does; repeat > 0 also measures; in_place passes the input as the
// output.
struct Mode {
  bool flush_denormals = false;
  int repeat = 0;
  bool in_place = false;
};

class FlushScope {
 public:
#if defined(__SSE__)
  explicit FlushScope(bool flush) : saved_(_mm_getcsr()) {
    if (flush) _mm_setcsr(saved_ | 0x8040u);  // FTZ and DAZ
  }
  ~FlushScope() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#else
  explicit FlushScope(bool) {}
#endif
};

// A heap block of exactly `count` elements (so that address sanitizers see over-reads), 64-byte aligned.
template <class T>
class Block {
 public:
  explicit Block(size_t count) : count_(count) {
    if (posix_memalign(&data_, 64, count * sizeof(T) + (count == 0)) != 0)
      throw Error("testing: out of memory");
  }
  Block(const T* from, size_t count) : Block(count) { std::memcpy(data(), from, count * sizeof(T)); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() { std::free(data_); }
  T* data() { return static_cast<T*>(data_); }
  size_t count() const { return count_; }

 private:
  void* data_ = nullptr;
  size_t count_;
};

template <class T>
class Guarded {
 public:
  explicit Guarded(size_t count) : block_(count + 2 * kGuard), count_(count) {
    std::memset(block_.data(), 0xA5, block_.count() * sizeof(T));
  }
  T* data() { return block_.data() + kGuard; }
  void check(const std::string& row) {
    const T* all = block_.data();
    T guard;
    std::memset(&guard, 0xA5, sizeof(T));
    for (size_t i = 0; i < block_.count(); ++i)
      if ((i < kGuard || i >= kGuard + count_) && std::memcmp(&all[i], &guard, sizeof(T)) != 0)
        throw Error("kernel " + row + " wrote outside its output");
  }

 private:
  static constexpr size_t kGuard = 64;
  Block<T> block_;
  size_t count_;
};

// Calls `kernel(y)` on a fresh output; returns y, or (y, best seconds of `repeat` calls).
template <class T>
py::object call(const std::string& row, const Shape& shape, const Mode& mode,
                const std::function<void(T*)>& kernel, const T* initial = nullptr) {
  size_t count = 1;
  for (py::ssize_t d : shape) count *= static_cast<size_t>(d);
  Guarded<T> y(count);
  if (initial) std::memcpy(y.data(), initial, count * sizeof(T));
  double best = 1e30;
  {
    const FlushScope flush(mode.flush_denormals);
    kernel(y.data());
    for (int i = 0; i < mode.repeat; ++i) {
      const auto start = std::chrono::steady_clock::now();
      kernel(y.data());
      const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
      if (elapsed.count() < best) best = elapsed.count();
    }
  }
  y.check(row);
  py::array_t<T> result(shape);
  std::memcpy(result.mutable_data(), y.data(), count * sizeof(T));
  if (mode.repeat > 0) return py::make_tuple(result, best);
  return std::move(result);
}

template <class Row>
const Row& find_row(const Row* rows, int count, const std::string& name) {
  for (int i = 0; i < count; ++i)
    if (name == rows[i].name) {
      std::string reason;
      if (!isa_usable(rows[i].isa, &reason)) throw Error("kernel " + name + " cannot run here: " + reason);
      return rows[i];
    }
  throw Error("no kernel row named " + name);
}

template <class Row>
const Row& find_row(const Row* (*rows)(int*), const Row& (*reference)(), const std::string& name) {
  if (name == "reference") return reference();
  int count = 0;
  const Row* all = rows(&count);
  return find_row(all, count, name);
}

template <class Row>
py::list list_rows(const Row* (*rows)(int*)) {
  int count = 0;
  const Row* all = rows(&count);
  py::list list;
  for (int i = 0; i < count; ++i) {
    py::dict row;
    row["name"] = all[i].name;
    row["isa"] = isa_name(all[i].isa);
    row["usable"] = isa_usable(all[i].isa, nullptr);
    list.append(row);
  }
  return list;
}

}  // namespace testing
}  // namespace pyruntime
