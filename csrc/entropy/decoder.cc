#include <algorithm>
#include <memory>

#include "base/cpu_features.h"
#include "base/error.h"
#include "entropy/decode_kernel.h"
#include "entropy/model.h"
#include "entropy/rans.h"

namespace pyruntime::entropy {
namespace {

constexpr size_t kSteps = 64;  // columns decoded at a time

const DecodeKernel& kernel_for(Isa isa) {
#ifdef PYRUNTIME_HAVE_AVX2
  if (isa_covers(isa, Isa::avx2)) return decode__avx2;
#endif
  return decode__scalar;
}

// All tables one after the other; at least one, so that there is something to look at where a lane does
// nothing.
std::unique_ptr<Slot[]> expand(const Model& model) {
  constexpr uint32_t kAtOnce = 4;
  const size_t tables = std::max<size_t>(model.tables.size(), 1);
  std::unique_ptr<Slot[]> slots(new Slot[tables * kScale + kAtOnce]);
  if (model.tables.empty()) std::fill(slots.get(), slots.get() + kScale, 0);
  Slot* at = slots.get();
  for (const Table& table : model.tables) {
    for (size_t i = 0; i < model.alphabet.size(); ++i) {
      const uint32_t frequency = table.frequency[i];
      const Slot first = model.alphabet[i] | (frequency - 1) << 8;
      for (uint32_t bias = 0; bias < frequency; bias += kAtOnce) {  // what is too many is written over
        for (uint32_t j = 0; j < kAtOnce; ++j) at[bias + j] = first + ((bias + j) << 20);
      }
      at += frequency;
    }
  }
  return slots;
}

// The stream of words, read where it stands. Of its end a copy is read that zeros follow: the coders look at
// the end every kSteps columns only, and may by then have gone past it.
class Words {
 public:
  static constexpr size_t kMost = 2 * sizeof(uint16_t) * kMaxLanes * kSteps + 16;  // bytes read in so many

  Words(const uint8_t* data, size_t size) : next_(data), end_(data + size) {
    if (size % 2) throw Error("entropy-coded block: half a word is left over");
  }

  // Where to read on; kMost bytes are readable.
  const uint8_t* next() {
    if (tail_.empty() && static_cast<size_t>(end_ - next_) < kMost) {
      tail_.assign(next_, end_);
      const size_t left = tail_.size();
      tail_.resize(left + kMost, 0);
      next_ = tail_.data();
      end_ = next_ + left;
    }
    return next_;
  }
  void move_to(const uint8_t* next) {
    next_ = next;
    if (next_ > end_) throw Error("entropy-coded block: the data is cut off");
  }
  bool at_end() const { return next_ == end_; }

 private:
  const uint8_t* next_;
  const uint8_t* end_;
  std::vector<uint8_t> tail_;
};

// Decodes bundle after bundle.
class Decoder {
 public:
  Decoder(const Model& model, size_t rows, size_t columns, const DecodeKernel& kernel)
      : model_(model), kernel_(kernel), rows_(rows), columns_(columns), slots_(expand(model)) {
    zero_.assign(model.zero.begin(), model.zero.end());
    zero_.resize(zero_.size() + 8);
    // Columns in another order than their own are put into it once the bundle is complete.
    const size_t held = model.column_order.empty() ? kSteps : columns;
    scratch_.reset(new uint8_t[(held + kSteps) * kMaxLanes]);
  }

  void decode(size_t first, uint32_t* x, uint8_t* symbols, Words& words) {
    int32_t lane_slots[kMaxLanes] = {}, lane_zero[kMaxLanes] = {}, count[kMaxLanes] = {};
    uint8_t* out[kMaxLanes] = {};
    const int lanes = static_cast<int>(std::min<size_t>(model_.lanes, rows_ - first));
    for (int l = 0; l < lanes; ++l) {
      const size_t row = model_.row_at(first + l);
      const int c = model_.class_of_row(row);
      lane_slots[l] = static_cast<int32_t>(model_.table_of(c, 0) * kScale);
      lane_zero[l] = c * model_.column_classes * model_.state_count();
      out[l] = symbols + row * columns_;
    }
    const size_t stride = model_.tables.size() <= 1 ? 0 : kScale;
    const Bundle bundle{x, lanes, slots_.get(), stride, lane_slots, zero_.data(), lane_zero, count};
    const bool ordered = !model_.column_order.empty();
    const int zeros = model_.split + model_.states;
    for (size_t begin = 0; begin < columns_; begin += kSteps) {
      uint8_t classes[kSteps];
      uint32_t places[kSteps];
      const size_t steps = std::min(kSteps, columns_ - begin);
      for (size_t i = 0; i < steps; ++i) {
        const size_t k = model_.column_at(begin + i);
        classes[i] = model_.class_of_column(k);
        places[i] = static_cast<uint32_t>(ordered ? k : i);
      }
      const Columns columns{static_cast<int>(steps), begin, classes, places, scratch_.get()};
      words.move_to(kernel_.columns(bundle, columns, zeros, words.next()));
      if (ordered) continue;
      kernel_.rows(scratch_.get(), steps, lanes, out);
      for (int l = 0; l < lanes; ++l) out[l] += steps;
    }
    if (ordered) kernel_.rows(scratch_.get(), columns_, lanes, out);
  }

 private:
  const Model& model_;
  const DecodeKernel& kernel_;
  size_t rows_, columns_;
  std::unique_ptr<Slot[]> slots_;
  std::vector<uint32_t> zero_;
  std::unique_ptr<uint8_t[]> scratch_;
};

}  // namespace

void decode(const uint8_t* block, size_t size, uint8_t* symbols, size_t rows, size_t columns, Isa isa) {
  const Model model = read_model(block, size, rows, columns);
  if (model.split && model.alphabet.empty() &&
      std::any_of(model.zero.begin(), model.zero.end(), [](uint16_t p) { return p != kScale; })) {
    throw Error("entropy-coded block: the alphabet is empty");
  }
  const size_t lanes = model.lanes;
  if (size - model.bytes < 4 * lanes) throw Error("entropy-coded block: the data is cut off");
  const uint8_t* data = block + model.bytes;
  uint32_t x[kMaxLanes] = {};
  for (size_t l = 0; l < lanes; ++l, data += 4) {
    x[l] = static_cast<uint32_t>(data[0]) | static_cast<uint32_t>(data[1]) << 8 |
           static_cast<uint32_t>(data[2]) << 16 | static_cast<uint32_t>(data[3]) << 24;
    if (x[l] < kLow) throw Error("entropy-coded block: a state is out of range");
  }
  Words words(data, static_cast<size_t>(block + size - data));
  Decoder decoder(model, rows, columns, kernel_for(isa));
  for (size_t row = 0; row < rows; row += lanes) decoder.decode(row, x, symbols, words);
  // The coder began from this state, so anything else is not what was coded.
  const bool at_start = std::all_of(x, x + lanes, [](uint32_t state) { return state == kLow; });
  if (!words.at_end() || !at_start) throw Error("entropy-coded block: the data is damaged");
}

}  // namespace pyruntime::entropy
