// panel16_mixed of pack.h.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

#include "kernels/conv_int8/pack.h"
#include "kernels/conv_int8/panel_rows.h"

namespace pyruntime {
namespace conv_int8 {
namespace {

constexpr size_t kNarrowBytes = 64, kWideBytes = 128, kBeginOffset = offsetof(MixedPanel, begin);

int groups_of(const ConvInt8Weights& weights) { return (weights.k + 3) / 4; }

// Products of two weights with any x0, x1 in [0, 255] stay in 16 bits if the positive ones of the weights
// come to at most 128 and the negative ones to at least -128: 255 * 128 fits, 255 * 129 does not.
constexpr int kMostOfASign = 128;

// What the positive weights of each of the 32 pairs of a group come to, then the negative ones, without sign
// and cut at 255.
struct PairSums {
  uint8_t of[64];
  uint8_t peak;
};

// Whole vectors at a time, as compilers find them: 32 pairs are 64 bytes.
PairSums pair_sums(const uint8_t* narrow) {
  int16_t pairs[32], positive[32], negative[32];
  std::memcpy(pairs, narrow, 64);
  int16_t peak = 0;
  const int16_t zero = 0;
  for (int i = 0; i < 32; ++i) {
    const int16_t a = static_cast<int16_t>(static_cast<int16_t>(pairs[i] << 8) >> 8);
    const int16_t b = static_cast<int16_t>(pairs[i] >> 8);
    positive[i] = static_cast<int16_t>(std::max(a, zero) + std::max(b, zero));
    negative[i] = static_cast<int16_t>(positive[i] - a - b);
    negative[i] = std::min<int16_t>(negative[i], 255);
    peak = std::max(peak, std::max(positive[i], negative[i]));
  }
  PairSums sums;
  for (int i = 0; i < 32; ++i) sums.of[i] = static_cast<uint8_t>(positive[i]);
  for (int i = 0; i < 32; ++i) sums.of[32 + i] = static_cast<uint8_t>(negative[i]);
  sums.peak = static_cast<uint8_t>(peak);
  return sums;
}

// Whether the sums of two narrow groups may be added in 16 bits.
bool fit_together(const PairSums& a, const PairSums& b) {
  if (a.peak + b.peak <= kMostOfASign) return true;
  uint8_t over = 0;
  for (int i = 0; i < 64; ++i)
    over = static_cast<uint8_t>(over | (a.of[i] > static_cast<uint8_t>(kMostOfASign - b.of[i])));
  return over == 0;
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

// The groups of one panel, all taps.
class PanelGroups {
 public:
  explicit PanelGroups(size_t groups) : sums_(groups) {}

  void look_at(const PanelRows& rows) {
    alignas(64) uint8_t narrow[kNarrowBytes];
    for (size_t g = 0; g < sums_.size(); ++g) {
      write_narrow(rows, g, narrow);
      sums_[g] = pair_sums(narrow);
    }
  }

  bool wide(size_t group) const { return sums_[group].peak > kMostOfASign; }

  // Those of the `count` groups from `first` on that are narrow, numbered from `first`: paired[i] and
  // paired[i + 1] fit together (i even), single ones found no partner. Few groups are not worth a loop more.
  void pair_up(size_t first, int count, std::vector<uint16_t>* paired, std::vector<uint16_t>* single) {
    paired->clear();
    single->clear();
    open_.clear();
    const PairSums* sums = sums_.data() + first;
    for (int g = 0; g < count; ++g)
      if (!wide(first + static_cast<size_t>(g))) open_.push_back(static_cast<uint16_t>(g));
    if (count < kLeastGroups) single->swap(open_);
    std::stable_sort(open_.begin(), open_.end(),
                     [sums](uint16_t a, uint16_t b) { return sums[a].peak < sums[b].peak; });
    while (!open_.empty()) {
      const uint16_t high = open_.back();
      open_.pop_back();
      const auto end = open_.begin() + static_cast<ptrdiff_t>(std::min(open_.size(), kCandidates));
      const auto low =
          std::find_if(open_.begin(), end, [&](uint16_t g) { return fit_together(sums[high], sums[g]); });
      if (low == end) {
        single->push_back(high);
        continue;
      }
      paired->push_back(high);
      paired->push_back(*low);
      open_.erase(low);
    }
  }

 private:
  // Of the groups with the smallest weights, which fit best, so many are tried for each with large ones.
  static constexpr size_t kCandidates = 16;
  static constexpr int kLeastGroups = 8;

  std::vector<PairSums> sums_;
  std::vector<uint16_t> open_;
};

size_t round_up(size_t value, size_t granule) { return (value + granule - 1) / granule * granule; }

size_t table_bytes(const ConvInt8Weights& weights) {
  return round_up(static_cast<size_t>((weights.n + 15) / 16) * 4, 64);
}

uint32_t group_offset(const ConvInt8Weights& weights) {
  return static_cast<uint32_t>(kBeginOffset + 4 * (3 * weights.taps + 1));
}

uint32_t weight_offset(const ConvInt8Weights& weights) {
  const size_t groups = static_cast<size_t>(weights.taps) * groups_of(weights);
  return static_cast<uint32_t>(round_up(group_offset(weights) + 2 * groups, 64));
}

// Writes the panel and returns its size in bytes.
size_t pack_panel(const ConvInt8Weights& weights, const PanelRows& rows, PanelGroups* groups, uint8_t* out) {
  const uint32_t head[2] = {group_offset(weights), weight_offset(weights)};
  std::memcpy(out, head, 8);
  uint8_t* columns = out + head[1];
  uint32_t count = 0, any_paired = 0;
  std::vector<uint16_t> paired, single, wide;
  const auto write = [&](const std::vector<uint16_t>& list, size_t first, int kind) {
    std::memcpy(out + kBeginOffset + 4 * (3 * (first / rows.groups()) + kind), &count, 4);
    for (const uint16_t g : list) {
      std::memcpy(out + head[0] + 2 * count++, &g, 2);
      (kind == 2 ? write_wide : write_narrow)(rows, first + g, columns);
      columns += kind == 2 ? kWideBytes : kNarrowBytes;
    }
  };
  for (int t = 0; t < weights.taps; ++t) {
    const size_t first = static_cast<size_t>(t) * rows.groups();
    groups->pair_up(first, rows.groups(), &paired, &single);
    wide.clear();
    for (int g = 0; g < rows.groups(); ++g)
      if (groups->wide(first + static_cast<size_t>(g))) wide.push_back(static_cast<uint16_t>(g));
    any_paired |= !paired.empty();
    write(paired, first, 0);
    write(single, first, 1);
    write(wide, first, 2);
  }
  std::memcpy(out + kBeginOffset + 4 * 3 * weights.taps, &count, 4);
  std::memcpy(out + offsetof(MixedPanel, paired), &any_paired, 4);
  return static_cast<size_t>(columns - out);
}

}  // namespace

size_t packed_bytes_panel16_mixed(const ConvInt8Weights& weights) {
  size_t bytes = table_bytes(weights);
  PanelRows rows(weights);
  const size_t groups = rows.row_bytes() / 4;
  PanelGroups found(groups);
  for (int panel = 0; panel < (weights.n + 15) / 16; ++panel) {
    rows.move_to(panel);
    found.look_at(rows);
    bytes += weight_offset(weights);
    for (size_t g = 0; g < groups; ++g) bytes += found.wide(g) ? kWideBytes : kNarrowBytes;
  }
  return bytes;
}

void pack_panel16_mixed(const ConvInt8Weights& weights, void* packed) {
  uint8_t* out = static_cast<uint8_t*>(packed);
  size_t at = table_bytes(weights);
  std::memset(out, 0, at);
  PanelRows rows(weights);
  PanelGroups groups(rows.row_bytes() / 4);
  for (int panel = 0; panel < (weights.n + 15) / 16; ++panel) {
    const uint32_t offset = static_cast<uint32_t>(at);
    std::memcpy(out + 4 * panel, &offset, 4);
    rows.move_to(panel);
    groups.look_at(rows);
    at += pack_panel(weights, rows, &groups, out + at);
  }
}

}  // namespace conv_int8
}  // namespace pyruntime
