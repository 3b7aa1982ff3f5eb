#include "entropy/model.h"

#include <algorithm>

#include "base/error.h"

namespace pyruntime::entropy {
namespace {

constexpr int kMaxCode = 47;

// Bits of a byte string, least significant first.
class BitReader {
 public:
  BitReader(const uint8_t* data, size_t size) : data_(data), bits_(size * 8) {}

  // At most 24 bits.
  uint32_t read(int count) {
    if (static_cast<size_t>(count) > bits_ - position_)
      throw Error("entropy-coded block: the head is cut off");
    const size_t first = position_ >> 3, last = (position_ + count + 7) >> 3;
    uint32_t value = 0;
    for (size_t byte = first; byte < last; ++byte) value |= uint32_t{data_[byte]} << 8 * (byte - first);
    value = value >> (position_ & 7) & ((1u << count) - 1);
    position_ += count;
    return value;
  }

  size_t bytes() const { return (position_ + 7) / 8; }

 private:
  const uint8_t* data_;
  size_t bits_;
  size_t position_ = 0;
};

std::vector<uint8_t> read_classes(BitReader& bits, size_t count, int width) {
  std::vector<uint8_t> classes(width > 0 ? count : 0);
  for (uint8_t& c : classes) c = static_cast<uint8_t>(bits.read(width));
  return classes;
}

// Places by class, and in their own order within one.
std::vector<uint32_t> order_of(const std::vector<uint8_t>& classes) {
  size_t next[(1 << kMaxClassBits) + 1] = {};
  for (uint8_t c : classes) ++next[c + 1];
  for (int c = 0; c < 1 << kMaxClassBits; ++c) next[c + 1] += next[c];
  std::vector<uint32_t> order(classes.size());
  for (size_t i = 0; i < classes.size(); ++i) order[next[classes[i]]++] = static_cast<uint32_t>(i);
  return order;
}

// Ascending as unsigned bytes, or as signed ones.
std::vector<uint8_t> read_alphabet(BitReader& bits, bool is_signed, bool split) {
  const uint32_t first = bits.read(8), last = bits.read(8);
  if (last < first) throw Error("entropy-coded block: the alphabet ends before it begins");
  std::vector<uint8_t> alphabet;
  for (uint32_t at = first; at <= last; ++at) {
    if (!bits.read(1)) continue;
    const uint8_t symbol = static_cast<uint8_t>(is_signed ? at ^ 0x80 : at);
    if (split && symbol == 0) throw Error("entropy-coded block: 0 stands in the alphabet beside its flags");
    alphabet.push_back(symbol);
  }
  if (alphabet.empty() && !split) throw Error("entropy-coded block: the alphabet is empty");
  return alphabet;
}

uint32_t read_rice(BitReader& bits, int width) {
  uint32_t quotient = 0;
  while (bits.read(1)) {
    if (++quotient > 2 * kMaxCode) throw Error("entropy-coded block: a frequency is out of range");
  }
  return quotient << width | bits.read(width);
}

uint32_t weight_of(int code) {
  if (code < 4) return static_cast<uint32_t>(code);
  return static_cast<uint32_t>(4 + (code & 3)) << ((code - 4) >> 2);
}

// Frequencies in proportion to the weights, at least 1 where the weight is not 0, that add up to kScale.
Table scaled(const std::vector<uint32_t>& weights) {
  uint64_t total = 0;
  for (uint32_t weight : weights) total += weight;
  if (total == 0) throw Error("entropy-coded block: a table has no symbol");
  Table table;
  int64_t left = kScale;
  for (uint32_t weight : weights) {
    const uint64_t share = weight * uint64_t{kScale} / total;
    table.frequency.push_back(static_cast<uint16_t>(weight == 0 ? 0 : std::max<uint64_t>(share, 1)));
    left -= table.frequency.back();
  }
  while (left != 0) {  // the largest one takes what rounding left; the first of several
    uint16_t& largest = *std::max_element(table.frequency.begin(), table.frequency.end());
    const int64_t change = std::max<int64_t>(left, -(int64_t{largest} / 2));
    largest = static_cast<uint16_t>(largest + change);
    left -= change;
  }
  uint32_t start = 0;
  for (uint16_t frequency : table.frequency) {
    table.start.push_back(static_cast<uint16_t>(start));
    start += frequency;
  }
  return table;
}

Table read_table(BitReader& bits, size_t symbols, int width) {
  std::vector<uint32_t> weights;
  int code = 0;
  for (size_t i = 0; i < symbols; ++i) {
    const uint32_t zigzag = read_rice(bits, width);
    code += static_cast<int>(zigzag >> 1) ^ -static_cast<int>(zigzag & 1);
    if (code < 0 || code > kMaxCode) throw Error("entropy-coded block: a frequency is out of range");
    weights.push_back(weight_of(code));
  }
  return scaled(weights);
}

}  // namespace

Model read_model(const uint8_t* data, size_t size, size_t rows, size_t columns) {
  BitReader bits(data, size);
  Model model;
  model.lanes = static_cast<int>(bits.read(kLaneBits)) + 1;
  model.split = bits.read(1);
  model.states = bits.read(1);
  const bool shared = bits.read(1), is_signed = bits.read(1);
  if (bits.read(1) || (model.states && !model.split)) throw Error("entropy-coded block: unknown flags");
  const int row_bits = static_cast<int>(bits.read(4)), column_bits = static_cast<int>(bits.read(4));
  if (row_bits > kMaxClassBits || column_bits > kMaxClassBits || row_bits + column_bits > kMaxContextBits) {
    throw Error("entropy-coded block: too many classes");
  }
  // A class takes a bit or more, so that absurd counts end here and not in memory.
  constexpr size_t kMost = 0xFFFFFFFF;
  if ((row_bits && rows > std::min(size * 8, kMost)) ||
      (column_bits && columns > std::min(size * 8, kMost))) {
    throw Error("entropy-coded block: the head is cut off");
  }
  model.row_classes = 1 << row_bits;
  model.column_classes = 1 << column_bits;
  model.alphabet = read_alphabet(bits, is_signed, model.split);
  model.row_class = read_classes(bits, rows, row_bits);
  model.column_class = read_classes(bits, columns, column_bits);
  model.row_order = order_of(model.row_class);
  if (!model.states) model.column_order = order_of(model.column_class);
  const size_t contexts = static_cast<size_t>(model.row_classes) * model.column_classes;
  if (model.split) {
    for (size_t i = 0; i < contexts * model.state_count(); ++i) {
      const uint32_t zero = bits.read(kScaleBits + 1);
      if (zero > kScale) throw Error("entropy-coded block: a frequency is out of range");
      model.zero.push_back(static_cast<uint16_t>(zero));
    }
  }
  const int width = static_cast<int>(bits.read(2));
  if (!model.alphabet.empty()) {
    for (size_t i = 0; i < (shared ? 1 : contexts); ++i) {
      model.tables.push_back(read_table(bits, model.alphabet.size(), width));
    }
  }
  model.bytes = bits.bytes();
  return model;
}

}  // namespace pyruntime::entropy
