// The statistical model at the head of an entropy-coded block (docs/format.md, section 4): which class each
// row and column belongs to, and the frequencies of the symbols in each context.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "entropy/constants.h"

namespace pyruntime::entropy {

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
  std::vector<uint8_t> row_class, column_class;  // empty where there is but one class
  std::vector<uint8_t> alphabet;                 // symbols in the order of the tables; without 0 if `split`
  std::vector<uint16_t> zero;  // [row class][column class][state], 0..kScale; empty unless `split`
  std::vector<Table> tables;   // [row class][column class], or one for all
  size_t bytes = 0;            // length of the head

  int state_count() const { return states ? kStates : 1; }
  // In which order rows, and columns, are coded; empty: in their own.
  std::vector<uint32_t> row_order, column_order;
  uint8_t class_of_row(size_t row) const { return row_class.empty() ? uint8_t{0} : row_class[row]; }
  uint8_t class_of_column(size_t k) const { return column_class.empty() ? uint8_t{0} : column_class[k]; }
  size_t row_at(size_t place) const { return row_order.empty() ? place : row_order[place]; }
  size_t column_at(size_t place) const { return column_order.empty() ? place : column_order[place]; }
  size_t table_of(int row_class_index, int column_class_index) const {
    return tables.size() == 1 ? 0
                              : static_cast<size_t>(row_class_index) * column_classes + column_class_index;
  }
};

// Reads the head of a block of rows x columns symbols. Throws Error for anything malformed.
Model read_model(const uint8_t* data, size_t size, size_t rows, size_t columns);

}  // namespace pyruntime::entropy
