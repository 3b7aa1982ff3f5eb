// panel16_mixed of pack.h.
#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/conv_int8/pack.h"
#include "kernels/conv_int8/panel_rows.h"

namespace pyruntime {
namespace conv_int8 {
namespace {

constexpr size_t kNarrowBytes = 64, kWideBytes = 128;

int groups_of(const ConvInt8Weights& weights) { return (weights.k + 3) / 4; }

// Which groups of a panel have to be wide. A pair saturates if its products may leave 16 bits for some x0, x1
// in [0, 255]: 255 * 128 fits and 255 * 129 does not, and only weights of one sign add up, so |a + b| > 128.
class WideGroups {
 public:
  explicit WideGroups(size_t groups) : pairs_(2 * groups) {}

  void look_at(const PanelRows& rows) {
    std::fill(pairs_.begin(), pairs_.end(), uint16_t{0});
    for (int i = 0; i < 16; ++i) mark(rows.row(i), pairs_.size(), pairs_.data());
  }
  bool operator[](size_t group) const { return (pairs_[2 * group] | pairs_[2 * group + 1]) != 0; }

 private:
  static void mark(const int8_t* w, size_t count, uint16_t* pairs) {
    for (size_t i = 0; i < count; ++i) {
      uint16_t two;
      std::memcpy(&two, w + 2 * i, 2);
      const int16_t a = static_cast<int16_t>(static_cast<int16_t>(two << 8) >> 8);
      const int16_t b = static_cast<int16_t>(static_cast<int16_t>(two) >> 8);
      const uint16_t sum = static_cast<uint16_t>(a + b + 128);
      pairs[i] = static_cast<uint16_t>(pairs[i] | (sum > 256));
    }
  }

  std::vector<uint16_t> pairs_;
};

size_t round_up(size_t value, size_t granule) { return (value + granule - 1) / granule * granule; }

size_t table_bytes(const ConvInt8Weights& weights) {
  return round_up(static_cast<size_t>((weights.n + 15) / 16) * 4, 64);
}

uint32_t group_offset(const ConvInt8Weights& weights) {
  return static_cast<uint32_t>(8 + 4 * (2 * weights.taps + 1));
}

uint32_t weight_offset(const ConvInt8Weights& weights) {
  const size_t groups = static_cast<size_t>(weights.taps) * groups_of(weights);
  return static_cast<uint32_t>(round_up(group_offset(weights) + 2 * groups, 64));
}

void write_narrow(const PanelRows& rows, size_t group, uint8_t* out) {
  for (int i = 0; i < 16; ++i) {
    const uint32_t four = rows.group(i, group);
    std::memcpy(out + 4 * i, &four, 4);
  }
}

// (w0, w2) of each channel, then (w1, w3).
void write_wide(const PanelRows& rows, size_t group, uint8_t* out) {
  for (int i = 0; i < 16; ++i) {
    const int8_t* w = rows.row(i) + 4 * group;
    const int16_t even[2] = {w[0], w[2]}, odd[2] = {w[1], w[3]};
    std::memcpy(out + 4 * i, even, 4);
    std::memcpy(out + 64 + 4 * i, odd, 4);
  }
}

// Writes the panel and returns its size in bytes.
size_t pack_panel(const ConvInt8Weights& weights, const PanelRows& rows, const WideGroups& is_wide,
                  uint8_t* out) {
  const uint32_t head[2] = {group_offset(weights), weight_offset(weights)};
  std::memcpy(out, head, 8);
  uint8_t* columns = out + head[1];
  uint32_t count = 0;
  for (int half = 0; half < 2 * weights.taps; ++half) {
    std::memcpy(out + 8 + 4 * half, &count, 4);
    const int t = half / 2;
    const bool wide = half % 2 == 1;
    for (int g = 0; g < rows.groups(); ++g) {
      const size_t group = static_cast<size_t>(t) * rows.groups() + g;
      if (is_wide[group] != wide) continue;
      const uint16_t index = static_cast<uint16_t>(g);
      std::memcpy(out + head[0] + 2 * count, &index, 2);
      ++count;
      (wide ? write_wide : write_narrow)(rows, group, columns);
      columns += wide ? kWideBytes : kNarrowBytes;
    }
  }
  std::memcpy(out + 8 + 4 * 2 * weights.taps, &count, 4);
  return static_cast<size_t>(columns - out);
}

}  // namespace

size_t packed_bytes_panel16_mixed(const ConvInt8Weights& weights) {
  size_t bytes = table_bytes(weights);
  PanelRows rows(weights);
  const size_t groups = rows.row_bytes() / 4;
  WideGroups is_wide(groups);
  for (int panel = 0; panel < (weights.n + 15) / 16; ++panel) {
    rows.move_to(panel);
    is_wide.look_at(rows);
    bytes += weight_offset(weights);
    for (size_t g = 0; g < groups; ++g) bytes += is_wide[g] ? kWideBytes : kNarrowBytes;
  }
  return bytes;
}

void pack_panel16_mixed(const ConvInt8Weights& weights, void* packed) {
  uint8_t* out = static_cast<uint8_t*>(packed);
  size_t at = table_bytes(weights);
  std::memset(out, 0, at);
  PanelRows rows(weights);
  WideGroups is_wide(rows.row_bytes() / 4);
  for (int panel = 0; panel < (weights.n + 15) / 16; ++panel) {
    const uint32_t offset = static_cast<uint32_t>(at);
    std::memcpy(out + 4 * panel, &offset, 4);
    rows.move_to(panel);
    is_wide.look_at(rows);
    at += pack_panel(weights, rows, is_wide, out + at);
  }
}

}  // namespace conv_int8
}  // namespace pyruntime
