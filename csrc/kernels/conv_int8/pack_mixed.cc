// panel16_mixed of pack.h, there wherever its kernels are.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

#include "kernels/conv_int8/mixed_groups.h"
#include "kernels/conv_int8/pack.h"
#include "kernels/conv_int8/panel_rows.h"

#ifdef PYRUNTIME_HAVE_AVX2

namespace pyruntime {
namespace conv_int8 {
namespace {

// The groups of one panel, all taps.
class PanelGroups {
 public:
  explicit PanelGroups(size_t groups)
      : narrow_(groups * kNarrowBytes), sums_(groups * kNarrowBytes), peaks_(groups), open_(groups) {}

  void look_at(const PanelRows& rows) {
    narrow_groups__avx2(rows.rows(), count(), narrow_.data());
    pair_sums__avx2(narrow_.data(), count(), sums_.data(), peaks_.data());
  }

  // Every `step`-th group, for an estimate.
  void look_at_some(const PanelRows& rows, size_t step) {
    for (size_t g = 0; g < count(); ++g) {
      for (int i = 0; i < 16; ++i) {
        const uint32_t four = rows.group(i, g * step);
        std::memcpy(narrow_.data() + kNarrowBytes * g + 4 * i, &four, 4);
      }
    }
    pair_sums__avx2(narrow_.data(), count(), sums_.data(), peaks_.data());
  }

  size_t count() const { return peaks_.size(); }

  // All groups: pairs that fit together, then narrow ones that found no partner, then wide ones.
  struct Order {
    std::vector<uint32_t> group;
    size_t paired_end = 0, narrow_end = 0;
  };

  void sort(Order* order) {
    const size_t narrow = sort_by_peak();
    order->group.resize(count());
    std::vector<uint32_t>& group = order->group;
    single_.resize(narrow);
    order->paired_end = pair_groups__avx2(sums_.data(), open_.data(), narrow, group.data(), single_.data());
    order->narrow_end = narrow;
    std::copy(single_.begin(), single_.begin() + static_cast<ptrdiff_t>(narrow - order->paired_end),
              group.begin() + static_cast<ptrdiff_t>(order->paired_end));
    size_t at = narrow;
    for (uint32_t g = 0; g < count(); ++g)
      if (peaks_[g] > kMostOfASign) group[at++] = g;
  }

  // The weights in that order; returns where they end.
  uint8_t* write(const Order& order, uint8_t* out) const {
    for (size_t i = 0; i < order.narrow_end; ++i, out += kNarrowBytes)
      std::memcpy(out, narrow_.data() + kNarrowBytes * order.group[i], kNarrowBytes);
    for (size_t i = order.narrow_end; i < count(); ++i, out += kWideBytes)
      write_wide__avx2(narrow_.data() + kNarrowBytes * order.group[i], out);
    return out;
  }

 private:
  // The narrow groups into `open_`, the smallest peak first; those of one peak in their order. Returns how
  // many there are.
  size_t sort_by_peak() {
    size_t next[257] = {};
    for (uint8_t peak : peaks_) ++next[peak + 1];
    for (int peak = 0; peak < kMostOfASign; ++peak) next[peak + 1] += next[peak];
    const size_t narrow = next[kMostOfASign] + next[kMostOfASign + 1];
    for (uint32_t g = 0; g < count(); ++g)
      if (peaks_[g] <= kMostOfASign) open_[next[peaks_[g]]++] = g;
    return narrow;
  }

  std::vector<uint8_t> narrow_, sums_, peaks_;
  std::vector<uint32_t> open_, single_;
};

size_t round_up(size_t value, size_t granule) { return (value + granule - 1) / granule * granule; }

size_t table_bytes(const ConvInt8Weights& weights) {
  return round_up(static_cast<size_t>((weights.n + 15) / 16) * 4, 64);
}

size_t weight_offset(size_t groups) { return round_up(sizeof(MixedPanel) + sizeof(uint32_t) * groups, 64); }

// Writes the panel and returns its size in bytes.
size_t pack_panel(PanelGroups* groups, PanelGroups::Order* order, uint8_t* out) {
  groups->sort(order);
  MixedPanel head;
  head.paired_end = static_cast<uint32_t>(order->paired_end);
  head.narrow_end = static_cast<uint32_t>(order->narrow_end);
  head.wide_end = static_cast<uint32_t>(groups->count());
  head.group_offset = static_cast<uint32_t>(sizeof(MixedPanel));
  head.weight_offset = static_cast<uint32_t>(weight_offset(groups->count()));
  std::memcpy(out, &head, sizeof(head));
  std::memcpy(out + head.group_offset, order->group.data(), groups->count() * sizeof(uint32_t));
  return static_cast<size_t>(groups->write(*order, out + head.weight_offset) - out);
}

}  // namespace

MixedShares estimate_mixed_shares(const ConvInt8Weights& weights) {
  constexpr size_t kMostGroups = 64;
  constexpr int kMostPanels = 3;
  PanelRows rows(weights);
  const size_t all = rows.row_bytes() / 4, step = (all + kMostGroups - 1) / kMostGroups;
  PanelGroups groups(all / step);
  PanelGroups::Order order;
  MixedShares shares;
  const int panels = std::max(1, weights.n / 16), looked_at = std::min(panels, kMostPanels);
  const double each = 1.0 / static_cast<double>(groups.count() * static_cast<size_t>(looked_at));
  for (int i = 0; i < looked_at; ++i) {
    rows.move_to(i * panels / looked_at);
    groups.look_at_some(rows, step);
    groups.sort(&order);
    shares.paired += each * static_cast<double>(order.paired_end);
    shares.narrow += each * static_cast<double>(order.narrow_end - order.paired_end);
  }
  shares.wide = 1.0 - shares.paired - shares.narrow;
  return shares;
}

size_t packed_bytes_panel16_mixed(const ConvInt8Weights& weights) {
  size_t bytes = table_bytes(weights);
  PanelRows rows(weights);
  const size_t groups = rows.row_bytes() / 4;
  for (int panel = 0; panel < (weights.n + 15) / 16; ++panel) {
    rows.move_to(panel);
    bytes += weight_offset(groups) + groups * kNarrowBytes;
    bytes += count_wide__avx2(rows.rows(), groups) * (kWideBytes - kNarrowBytes);
  }
  return bytes;
}

void pack_panel16_mixed(const ConvInt8Weights& weights, void* packed) {
  uint8_t* out = static_cast<uint8_t*>(packed);
  size_t at = table_bytes(weights);
  std::memset(out, 0, at);
  PanelRows rows(weights);
  PanelGroups groups(rows.row_bytes() / 4);
  PanelGroups::Order order;
  for (int panel = 0; panel < (weights.n + 15) / 16; ++panel) {
    const uint32_t offset = static_cast<uint32_t>(at);
    std::memcpy(out + 4 * panel, &offset, 4);
    rows.move_to(panel);
    groups.look_at(rows);
    at += pack_panel(&groups, &order, out + at);
  }
}

}  // namespace conv_int8
}  // namespace pyruntime

#endif
