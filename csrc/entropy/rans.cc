#include "entropy/rans.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "entropy/model.h"

namespace pyruntime::entropy {
namespace {

constexpr uint32_t kLow = 1u << 16;

// ------------------------------------------------------------------------------------------------ decoding

// Symbol, frequency - 1 and position within the symbol's interval, for each of the kScale slots of a table.
struct Slot {
  uint32_t packed;
  uint8_t symbol() const { return static_cast<uint8_t>(packed); }
  uint32_t frequency() const { return (packed >> 8 & 0xFFF) + 1; }
  uint32_t bias() const { return packed >> 20; }
};

std::vector<Slot> expand(const Model& model) {
  std::vector<Slot> slots(model.tables.size() * kScale);
  Slot* at = slots.data();
  for (const Table& table : model.tables) {
    for (size_t i = 0; i < model.alphabet.size(); ++i) {
      const uint32_t frequency = table.frequency[i];
      for (uint32_t bias = 0; bias < frequency; ++bias) {
        *at++ = {model.alphabet[i] | (frequency - 1) << 8 | bias << 20};
      }
    }
  }
  return slots;
}

// The stream of words, read where it stands. Of its end a copy is read that zeros follow: the coders look at
// the end every kSteps columns only, and may by then have gone past it.
class Words {
 public:
  static constexpr size_t kSteps = 64;                                        // columns of a bundle
  static constexpr size_t kMost = 2 * sizeof(uint16_t) * kMaxLanes * kSteps;  // bytes read in so many

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

struct Bundle {
  uint32_t* x;     // states
  uint8_t* out;    // first row
  size_t columns;  // and distance between rows
  const uint8_t* row_class;
};

// The state after a symbol, with a word shifted in if it fell below its range. A branch would be a coin toss.
[[gnu::always_inline]] inline uint32_t refill(uint32_t x, const uint8_t*& next) {
  const uint32_t low = x < kLow;
  const uint32_t word = (next[0] | static_cast<uint32_t>(next[1]) << 8) & (0u - low);
  next += 2 * low;
  return x << (16 * low) | word;
}

// One bundle of N rows, every symbol from the table of its context. What a store through a pointer to bytes
// may change as far as the compiler knows (all that is not local) is copied first.
template <int N>
void decode_joint(const Model& model, const std::vector<Slot>& slots, const Bundle& bundle, Words& words) {
  const Slot* tables[N];
  for (int l = 0; l < N; ++l) tables[l] = slots.data() + model.table_of(bundle.row_class[l], 0) * kScale;
  const size_t stride = model.tables.size() == 1 ? 0 : kScale, columns = bundle.columns;
  const uint8_t* column_class = model.column_class.data();
  uint8_t* out = bundle.out;
  uint32_t x[N];
  std::copy(bundle.x, bundle.x + N, x);
  for (size_t begin = 0; begin < columns; begin += Words::kSteps) {
    const size_t end = std::min(columns, begin + Words::kSteps);
    const uint8_t* next = words.next();
    for (size_t k = begin; k < end; ++k) {
      const size_t offset = column_class[k] * stride;
      for (int l = 0; l < N; ++l) {
        const Slot slot = tables[l][offset + (x[l] & (kScale - 1))];
        out[l * columns + k] = slot.symbol();
        x[l] = refill(slot.frequency() * (x[l] >> kScaleBits) + slot.bias(), next);
      }
    }
    words.move_to(next);
  }
  std::copy(x, x + N, bundle.x);
}

// One bundle of N rows, a zero flag first and the symbol only where it is not zero.
template <int N, bool kWithStates>
void decode_split(const Model& model, const std::vector<Slot>& slots, const Bundle& bundle, Words& words) {
  constexpr int kCount = kWithStates ? kStates : 1;
  const uint16_t* zero[N];
  const Slot* tables[N];
  for (int l = 0; l < N; ++l) {
    zero[l] = model.zero.data() + static_cast<size_t>(bundle.row_class[l]) * model.column_classes * kCount;
    tables[l] = slots.data() + model.table_of(bundle.row_class[l], 0) * kScale;
  }
  const size_t stride = model.tables.size() == 1 ? 0 : kScale, columns = bundle.columns;
  const uint8_t* column_class = model.column_class.data();
  uint8_t* out = bundle.out;
  int count[N] = {};
  uint32_t x[N];
  std::copy(bundle.x, bundle.x + N, x);
  for (size_t begin = 0; begin < columns; begin += Words::kSteps) {
    const size_t end = std::min(columns, begin + Words::kSteps);
    const uint8_t* next = words.next();
    for (size_t k = begin; k < end; ++k) {
      const size_t c = column_class[k];
      for (int l = 0; l < N; ++l) {
        const int state = kWithStates ? flag_state(k, count[l]) : 0;
        if (kWithStates && (k & 3) == 0) count[l] = 0;
        const uint32_t p = zero[l][c * kCount + state];
        const uint32_t slot = x[l] & (kScale - 1), high = x[l] >> kScaleBits;
        if (slot < p) {
          out[l * columns + k] = 0;
          x[l] = refill(p * high + slot, next);
          continue;
        }
        const uint32_t y = refill((kScale - p) * high + slot - p, next);
        const Slot value = tables[l][c * stride + (y & (kScale - 1))];
        out[l * columns + k] = value.symbol();
        x[l] = refill(value.frequency() * (y >> kScaleBits) + value.bias(), next);
        if (kWithStates) ++count[l];
      }
    }
    words.move_to(next);
  }
  std::copy(x, x + N, bundle.x);
}

using DecodeBundle = void (*)(const Model&, const std::vector<Slot>&, const Bundle&, Words&);

template <int N>
DecodeBundle choose(const Model& model) {
  if (!model.split) return decode_joint<N>;
  return model.states ? decode_split<N, true> : decode_split<N, false>;
}

DecodeBundle decoder_for(const Model& model, size_t lanes) {
  switch (lanes) {
    case 1:
      return choose<1>(model);
    case 2:
      return choose<2>(model);
    case 3:
      return choose<3>(model);
    case 4:
      return choose<4>(model);
    case 5:
      return choose<5>(model);
    case 6:
      return choose<6>(model);
    case 7:
      return choose<7>(model);
    default:
      return choose<8>(model);
  }
}

// ------------------------------------------------------------------------------------------------ encoding

class Writer {
 public:
  explicit Writer(int lanes) : x_(lanes, kLow) {}

  // Codes an interval of a table; intervals come in the reverse of the order in which they are decoded.
  void put(size_t lane, uint32_t start, uint32_t frequency) {
    if (frequency == 0) throw Error("entropy-coded block: the head has no room for a symbol");
    uint32_t& x = x_[lane];
    if (static_cast<uint64_t>(x) >= static_cast<uint64_t>(frequency) << (32 - kScaleBits)) {
      words_.push_back(static_cast<uint16_t>(x));
      x >>= 16;
    }
    x = (x / frequency << kScaleBits) + x % frequency + start;
  }

  void finish(std::vector<uint8_t>& block) const {
    for (uint32_t x : x_) {
      for (int shift = 0; shift < 32; shift += 8) block.push_back(static_cast<uint8_t>(x >> shift));
    }
    for (size_t i = words_.size(); i-- > 0;) {
      block.push_back(static_cast<uint8_t>(words_[i]));
      block.push_back(static_cast<uint8_t>(words_[i] >> 8));
    }
  }

 private:
  std::vector<uint32_t> x_;
  std::vector<uint16_t> words_;
};

// The state of the flag of column k of a row, seen from the symbols before it.
int state_at(const uint8_t* row, size_t k) {
  const size_t begin = k % 4 == 0 ? (k == 0 ? 0 : k - 4) : k - k % 4;
  int count = 0;
  for (size_t i = begin; i < k; ++i) count += row[i] != 0;
  return flag_state(k, count);
}

}  // namespace

std::vector<uint8_t> encode(const uint8_t* head, size_t head_size, const uint8_t* symbols, size_t rows,
                            size_t columns) {
  const Model model = read_model(head, head_size, rows, columns);
  if (model.bytes != head_size) throw Error("entropy-coded block: the head is longer than it says");
  int position_of[256];
  std::fill(position_of, position_of + 256, -1);
  for (size_t i = 0; i < model.alphabet.size(); ++i) position_of[model.alphabet[i]] = static_cast<int>(i);
  const size_t lanes = model.lanes;
  Writer writer(model.lanes);
  for (size_t bundle = (rows + lanes - 1) / lanes; bundle-- > 0;) {
    const size_t first = bundle * lanes, count = std::min(lanes, rows - first);
    for (size_t k = columns; k-- > 0;) {
      for (size_t lane = count; lane-- > 0;) {
        const size_t row = first + lane;
        const uint8_t symbol = symbols[row * columns + k];
        const int r = model.row_class[row], c = model.column_class[k];
        if (!model.split || symbol != 0) {
          const int position = position_of[symbol];
          if (position < 0) throw Error("entropy-coded block: the head has no room for a symbol");
          const Table& table = model.tables[model.table_of(r, c)];
          writer.put(lane, table.start[position], table.frequency[position]);
        }
        if (model.split) {
          const int state = model.states ? state_at(symbols + row * columns, k) : 0;
          const size_t context = static_cast<size_t>(r) * model.column_classes + c;
          const uint32_t p = model.zero[context * model.state_count() + state];
          symbol == 0 ? writer.put(lane, 0, p) : writer.put(lane, p, kScale - p);
        }
      }
    }
  }
  std::vector<uint8_t> block(head, head + head_size);
  writer.finish(block);
  return block;
}

void decode(const uint8_t* block, size_t size, uint8_t* symbols, size_t rows, size_t columns) {
  const Model model = read_model(block, size, rows, columns);
  if (model.split && model.alphabet.empty() &&
      std::any_of(model.zero.begin(), model.zero.end(), [](uint16_t p) { return p != kScale; })) {
    throw Error("entropy-coded block: the alphabet is empty");
  }
  const size_t lanes = model.lanes;
  if (size - model.bytes < 4 * lanes) throw Error("entropy-coded block: the data is cut off");
  const uint8_t* data = block + model.bytes;
  uint32_t x[kMaxLanes];
  for (size_t l = 0; l < lanes; ++l, data += 4) {
    x[l] = static_cast<uint32_t>(data[0]) | static_cast<uint32_t>(data[1]) << 8 |
           static_cast<uint32_t>(data[2]) << 16 | static_cast<uint32_t>(data[3]) << 24;
    if (x[l] < kLow) throw Error("entropy-coded block: a state is out of range");
  }
  Words words(data, static_cast<size_t>(block + size - data));
  const std::vector<Slot> slots = expand(model);
  for (size_t row = 0; row < rows; row += lanes) {
    const size_t count = std::min(lanes, rows - row);
    const Bundle bundle{x, symbols + row * columns, columns, model.row_class.data() + row};
    decoder_for(model, count)(model, slots, bundle, words);
  }
  // The coder began from this state, so anything else is not what was coded.
  const bool at_start = std::all_of(x, x + lanes, [](uint32_t state) { return state == kLow; });
  if (!words.at_end() || !at_start) throw Error("entropy-coded block: the data is damaged");
}

}  // namespace pyruntime::entropy
