#include <algorithm>

#include "base/error.h"
#include "entropy/model.h"
#include "entropy/rans.h"

namespace pyruntime::entropy {
namespace {

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
    for (size_t place = columns; place-- > 0;) {
      const size_t k = model.column_at(place);
      const int c = model.class_of_column(k);
      for (size_t lane = count; lane-- > 0;) {
        const size_t row = model.row_at(first + lane);
        const uint8_t symbol = symbols[row * columns + k];
        if (model.split && symbol == 0) continue;
        const int position = position_of[symbol];
        if (position < 0) throw Error("entropy-coded block: the head has no room for a symbol");
        const Table& table = model.tables[model.table_of(model.class_of_row(row), c)];
        writer.put(lane, table.start[position], table.frequency[position]);
      }
      for (size_t lane = model.split ? count : 0; lane-- > 0;) {
        const size_t row = model.row_at(first + lane);
        const uint8_t* at = symbols + row * columns;
        const int state = model.states ? state_at(at, k) : 0;
        const size_t context = static_cast<size_t>(model.class_of_row(row)) * model.column_classes + c;
        const uint32_t p = model.zero[context * model.state_count() + state];
        at[k] == 0 ? writer.put(lane, 0, p) : writer.put(lane, p, kScale - p);
      }
    }
  }
  std::vector<uint8_t> block(head, head + head_size);
  writer.finish(block);
  return block;
}

}  // namespace pyruntime::entropy
