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

constexpr size_t kNarrowBytes = 64, kWideBytes = 128;

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

  // Every `step`-th group: all of them, unless for an estimate.
  void look_at(const PanelRows& rows, size_t step = 1) {
    alignas(64) uint8_t narrow[kNarrowBytes];
    for (size_t g = 0; g < sums_.size(); ++g) {
      write_narrow(rows, g * step, narrow);
      sums_[g] = pair_sums(narrow);
    }
  }

  size_t count() const { return sums_.size(); }

  bool wide(size_t group) const { return sums_[group].peak > kMostOfASign; }

  // The narrow groups: paired[i] and paired[i + 1] fit together (i even), single ones found no partner.
  void pair_up(std::vector<uint32_t>* paired, std::vector<uint32_t>* single) {
    const PairSums* sums = sums_.data();
    open_.clear();
    for (uint32_t g = 0; g < sums_.size(); ++g)
      if (!wide(g)) open_.push_back(g);
    std::stable_sort(open_.begin(), open_.end(),
                     [sums](uint32_t a, uint32_t b) { return sums[a].peak < sums[b].peak; });
    while (!open_.empty()) {
      const uint32_t high = open_.back();
      open_.pop_back();
      const auto end = open_.begin() + static_cast<ptrdiff_t>(std::min(open_.size(), kCandidates));
      const auto low =
          std::find_if(open_.begin(), end, [&](uint32_t g) { return fit_together(sums[high], sums[g]); });
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

  std::vector<PairSums> sums_;
  std::vector<uint32_t> open_;
};

size_t round_up(size_t value, size_t granule) { return (value + granule - 1) / granule * granule; }

size_t table_bytes(const ConvInt8Weights& weights) {
  return round_up(static_cast<size_t>((weights.n + 15) / 16) * 4, 64);
}

size_t weight_offset(size_t groups) { return round_up(sizeof(MixedPanel) + sizeof(uint32_t) * groups, 64); }

// Writes the panel and returns its size in bytes.
size_t pack_panel(const PanelRows& rows, PanelGroups* groups, uint8_t* out) {
  std::vector<uint32_t> order, narrow;
  MixedPanel head;
  groups->pair_up(&order, &narrow);
  head.paired_end = static_cast<uint32_t>(order.size());
  order.insert(order.end(), narrow.begin(), narrow.end());
  head.narrow_end = static_cast<uint32_t>(order.size());
  for (uint32_t g = 0; g < groups->count(); ++g)
    if (groups->wide(g)) order.push_back(g);
  head.wide_end = static_cast<uint32_t>(order.size());
  head.group_offset = static_cast<uint32_t>(sizeof(MixedPanel));
  head.weight_offset = static_cast<uint32_t>(weight_offset(order.size()));
  std::memcpy(out, &head, sizeof(head));
  std::memcpy(out + head.group_offset, order.data(), order.size() * sizeof(uint32_t));
  uint8_t* columns = out + head.weight_offset;
  for (uint32_t i = 0; i < head.wide_end; ++i) {
    const bool wide = i >= head.narrow_end;
    (wide ? write_wide : write_narrow)(rows, order[i], columns);
    columns += wide ? kWideBytes : kNarrowBytes;
  }
  return static_cast<size_t>(columns - out);
}

}  // namespace

MixedShares estimate_mixed_shares(const ConvInt8Weights& weights) {
  constexpr size_t kMostGroups = 64;
  constexpr int kMostPanels = 3;
  PanelRows rows(weights);
  const size_t all = rows.row_bytes() / 4, step = (all + kMostGroups - 1) / kMostGroups;
  PanelGroups groups(all / step);
  MixedShares shares;
  const int panels = std::max(1, weights.n / 16), looked_at = std::min(panels, kMostPanels);
  const double each = 1.0 / static_cast<double>(groups.count() * static_cast<size_t>(looked_at));
  for (int i = 0; i < looked_at; ++i) {
    rows.move_to(i * panels / looked_at);
    groups.look_at(rows, step);
    std::vector<uint32_t> paired, narrow;
    groups.pair_up(&paired, &narrow);
    shares.paired += each * static_cast<double>(paired.size());
    shares.narrow += each * static_cast<double>(narrow.size());
  }
  shares.wide = 1.0 - shares.paired - shares.narrow;
  return shares;
}

size_t packed_bytes_panel16_mixed(const ConvInt8Weights& weights) {
  size_t bytes = table_bytes(weights);
  PanelRows rows(weights);
  const size_t groups = rows.row_bytes() / 4;
  PanelGroups found(groups);
  for (int panel = 0; panel < (weights.n + 15) / 16; ++panel) {
    rows.move_to(panel);
    found.look_at(rows);
    bytes += weight_offset(groups);
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
    at += pack_panel(rows, &groups, out + at);
  }
}

}  // namespace conv_int8
}  // namespace pyruntime
