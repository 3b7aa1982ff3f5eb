// What an operator is to the plan: shapes, layout wishes, and a step that runs tasks.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/isa.h"
#include "kernels/conv_int8/conv_int8.h"
#include "runtime/program.h"
#include "runtime/tuning.h"
#include "runtime/weight_cache.h"

namespace pyruntime {

// How a value of rank 3 or 4 is stored. Other ranks are always plain (C order).
enum class Form { plain, channels_last, any };

struct LayoutTraits {
  Form input = Form::any;    // form every dynamic input must have
  Form output = Form::any;   // form the operator writes; any: whatever the plan asks for
  bool propagates = false;   // channels-last on one side is worth having on the other
  bool elementwise = false;  // calls its kernel once per contiguous run: fast only if runs are long
  // Converts a plain input while it writes a channels-last output, at no extra cost.
  bool converts = false;
  // Masks, bit i = input i. Inputs a step reads at run time (others are parameters, used by prepare alone),
  // and inputs whose neighbourhood of 64 bytes the kernel reads too: these must lie in the arena.
  unsigned data_inputs = ~0u, slack_inputs = 0;
};

// A tensor of a plan: a buffer of the run, a byte offset of its first element, and its description.
struct Operand {
  int buffer = -1;  // -1: absent optional input
  ptrdiff_t offset = 0;
  Tensor t;
  bool present() const { return buffer >= 0; }
};

// What a task sees: the buffers of this run and its thread's scratch memory.
struct RunContext {
  char* const* buffers = nullptr;
  char* scratch = nullptr;
  size_t scratch_stride = 0;
  std::atomic<const std::string*>* failure = nullptr;

  // A task found values it cannot work with. The run goes on, then throws an Error with this text, which must
  // live as long as the plan.
  void fail(const std::string* text) const { failure->store(text, std::memory_order_relaxed); }

  template <typename T>
  T* at(const Operand& o) const {
    return reinterpret_cast<T*>(buffers[o.buffer] + o.offset);
  }
  char* scratch_of(int thread) const { return scratch + scratch_stride * thread; }
};

// The work of one node for fixed shapes. Tasks of a step are independent and may run on any thread.
struct Step {
  std::function<void(const RunContext&, int task, int thread)> run;
  int tasks = 0;
  size_t scratch_bytes = 0;  // per thread
  std::string kernel;        // row of a kernels.inc, or "runtime:<op>"
  std::string isa = "scalar";
  std::string precision;                     // "int8", "float32", "int8 (block4)", ...
  size_t weight_bytes = 0;                   // packed weights
  std::shared_ptr<const StepTuning> tuning;  // of integer layers where the context has a Tuning
};

using Table = std::array<uint8_t, 256>;

// What the sum of two float tensors is clamped to.
struct SumBounds {
  float lo, hi;
};

struct PlanContext {
  std::vector<Operand> inputs;
  Operand output;
  Isa isa = Isa::scalar;
  int num_threads = 1;
  double program_weight_bytes = 0;            // of all layers
  std::optional<WeightFormat> weight_format;  // none: the plan chooses
  const Tuning* tuning = nullptr;             // null: costs alone choose
  WeightCache* cache = nullptr;
  const Table* table = nullptr;  // applied to every output byte; only for operators with applies_table()
  // Only for operators with normalizes(): `addends` are added up for input 0, and the output is written to
  // `quantized`, too, with the scale and zero point of `quantized_value`.
  const SumBounds* sum = nullptr;
  std::vector<Operand> addends;
  Operand quantized;
  const Value* quantized_value = nullptr;
};

class Operator {
 public:
  explicit Operator(const NodeInfo& info) : info_(info) {}
  virtual ~Operator() = default;

  // Output shape for these input shapes (an absent input has an empty shape). Throws Error.
  virtual Shape infer(const std::vector<Shape>& inputs) const = 0;
  virtual LayoutTraits traits() const = 0;
  // Cells round input i that the operator reads.
  virtual Halo halo(int /*input*/, const std::vector<Shape>& /*inputs*/) const { return {}; }
  // True if the output is the input's memory under another shape (both plain).
  virtual bool is_alias() const { return false; }
  // True if prepare() heeds PlanContext::table.
  virtual bool applies_table() const { return false; }
  // The table of a `lut`, else null.
  virtual const Table* table() const { return nullptr; }
  // True if prepare() heeds PlanContext::addends and ::quantized.
  virtual bool normalizes() const { return false; }
  // The bounds of a float `add`, else null.
  virtual const SumBounds* sum() const { return nullptr; }
  // True for a `quantize` to u8.
  virtual bool quantizes() const { return false; }
  // True for a concat of channels (axis 1 of an image). Its prepare() skips inputs that lie in the output's
  // buffer.
  virtual bool joins_channels(const Shape& /*output*/) const { return false; }
  // True if sample i of the output (along axis 0) needs nothing but samples i of the `batched` inputs, and
  // the other inputs. Only inputs read at run time count. Called if the output grows with the batch.
  virtual bool keeps_samples(const std::vector<Shape>& /*inputs*/,
                             const std::vector<bool>& /*batched*/) const {
    return false;
  }
  // Chooses kernels and packs weights. Called only if the output has elements.
  virtual Step prepare(const PlanContext& context) const = 0;

  const NodeInfo& info() const { return info_; }

 protected:
  NodeInfo info_;
};

// Builds the operator of a node: checks attributes, dtypes and constants. Throws Error.
std::unique_ptr<Operator> make_operator(const NodeInfo& info);

}  // namespace pyruntime
