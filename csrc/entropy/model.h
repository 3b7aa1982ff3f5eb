// The statistical model at the head of an entropy-coded block (docs/format.md, section 4): which class each
// row and column belongs to, and the frequencies of the symbols in each context.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace pyruntime::entropy {

constexpr int kScaleBits = 12;
constexpr uint32_t kScale = 1u << kScaleBits;  // what the frequencies of a context add up to
constexpr int kMaxLanes = 8;
constexpr int kMaxClassBits = 4;
constexpr int kMaxContextBits = 6;
constexpr int kStates = 11;  // contexts of a zero flag within a group of four columns

struct Table {
  // Frequency and cumulative frequency of the symbol at each position of the alphabet.
  std::vector<uint16_t> frequency;
  std::vector<uint16_t> start;
};

struct Model {
  int lanes = 1;
  bool split = false;   // zero flags are coded apart from the other symbols
  bool states = false;  // with `split`: flags also depend on the flags before them
  int row_classes = 1, column_classes = 1;
  std::vector<uint8_t> row_class, column_class;
  std::vector<uint8_t> alphabet;  // symbols in the order of the tables; without 0 if `split`
  std::vector<uint16_t> zero;     // [row class][column class][state], 0..kScale; empty unless `split`
  std::vector<Table> tables;      // [row class][column class], or one for all
  size_t bytes = 0;               // length of the head

  int state_count() const { return states ? kStates : 1; }
  size_t table_of(int row_class_index, int column_class_index) const {
    return tables.size() == 1 ? 0
                              : static_cast<size_t>(row_class_index) * column_classes + column_class_index;
  }
};

// Reads the head of a block of rows x columns symbols. Throws Error for anything malformed.
Model read_model(const uint8_t* data, size_t size, size_t rows, size_t columns);

// Where the flag of column k stands: `count` symbols other than 0 among the columns before it in its group of
// four; for the first of a group, whether the group before it had any.
inline int flag_state(size_t k, int count) {
  static constexpr int kBase[4] = {0, 2, 4, 7};
  const int position = static_cast<int>(k & 3);
  return kBase[position] + (position == 0 ? (count > 0) : count);
}

}  // namespace pyruntime::entropy
