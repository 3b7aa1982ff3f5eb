#include "kernels/conv_int8/sparse_tiles.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/conv_int8/sparse_blocks.h"

namespace pyruntime {
namespace conv_int8 {
namespace {

constexpr int kSixteen = 16;  // lanes of a panel; channels that are sorted together

// The nonzero blocks of an output channel in the order of the inputs.
struct Lane {
  std::vector<uint32_t> block, weights;  // number, four weights
  size_t next = 0;

  bool done() const { return next == block.size(); }
};

struct Slot {
  int8_t weights[kSixteen][4] = {};
  uint8_t index[kSixteen] = {};
  uint16_t chunk = 0;
};

int groups_of(int n) { return (n + kTilesGroup - 1) / kTilesGroup; }

Lane lane_of(const ConvInt8Weights& weights, int channel) {
  Lane lane;
  if (channel >= weights.n) return lane;
  for_each_block(weights, channel, false, [&](int b, const int8_t* value) {
    uint32_t bits;
    std::memcpy(&bits, value, 4);
    lane.block.push_back(static_cast<uint32_t>(b));
    lane.weights.push_back(bits);
  });
  return lane;
}

SparseTilesGroup sort_group(const std::vector<Lane>& lanes) {
  SparseTilesGroup group;
  for (int first = 0; first < kTilesGroup; first += kSixteen) {
    uint8_t* order = group.order + first;
    std::iota(order, order + kSixteen, uint8_t{0});
    const auto blocks = [&](uint8_t c) { return lanes[static_cast<size_t>(first + c)].block.size(); };
    std::stable_sort(order, order + kSixteen, [&](uint8_t a, uint8_t b) { return blocks(a) > blocks(b); });
    for (int i = 0; i < kSixteen; ++i) group.place[first + order[i]] = static_cast<uint8_t>(i);
  }
  std::memset(group.residual, 0x80, sizeof(group.residual));  // VPSHUFB: zero
  for (int v = 0; v < kTilesPanels; ++v)
    for (int i = 0; i < kSixteen; ++i)
      group.residual[v][4 * i] = group.order[i / 4 * kSixteen + 4 * v + i % 4];
  return group;
}

// The slots of a panel. The window stands at the lowest block that any lane still has.
std::vector<Slot> place_panel(std::vector<Lane*> lanes) {
  std::vector<Slot> slots;
  for (;;) {
    uint32_t lowest = UINT32_MAX;
    for (const Lane* lane : lanes)
      if (!lane->done()) lowest = std::min(lowest, lane->block[lane->next]);
    if (lowest == UINT32_MAX) return slots;
    Slot slot;
    slot.chunk = static_cast<uint16_t>(lowest / kSixteen);
    for (size_t i = 0; i < lanes.size(); ++i) {
      Lane& lane = *lanes[i];
      if (lane.done() || lane.block[lane.next] / kSixteen > slot.chunk + 1u) continue;
      slot.index[i] = static_cast<uint8_t>(lane.block[lane.next] - slot.chunk * kSixteen);
      std::memcpy(slot.weights[i], &lane.weights[lane.next], 4);
      ++lane.next;
    }
    slots.push_back(slot);
  }
}

// Calls visit(panel, slots) for the panels of group `g`, and gives the order of its channels.
template <typename Visit>
SparseTilesGroup for_each_panel(const ConvInt8Weights& weights, int g, Visit visit) {
  std::vector<Lane> lanes;
  for (int i = 0; i < kTilesGroup; ++i) lanes.push_back(lane_of(weights, g * kTilesGroup + i));
  const SparseTilesGroup group = sort_group(lanes);
  for (int v = 0; v < kTilesPanels; ++v) {
    std::vector<Lane*> panel;
    for (int i = 0; i < kSixteen; ++i) {
      const int first = i / 4 * kSixteen;
      panel.push_back(&lanes[static_cast<size_t>(first + group.order[first + 4 * v + i % 4])]);
    }
    visit(g * kTilesPanels + v, place_panel(std::move(panel)));
  }
  return group;
}

size_t bytes_of(int n, size_t slots) {
  const size_t groups = static_cast<size_t>(groups_of(n));
  const size_t tables = groups * sizeof(SparseTilesGroup) + (groups * kTilesPanels + 1) * sizeof(uint32_t);
  return (tables + 63) / 64 * 64 + slots * (64 + 16 + 2);
}

}  // namespace

size_t packed_bytes_block4_tiles(const ConvInt8Weights& weights) {
  size_t slots = 0;
  for (int g = 0; g < groups_of(weights.n); ++g)
    for_each_panel(weights, g, [&](int, const std::vector<Slot>& panel) { slots += panel.size(); });
  return bytes_of(weights.n, slots);
}

void pack_block4_tiles(const ConvInt8Weights& weights, void* packed) {
  const int groups = groups_of(weights.n);
  auto* group = static_cast<SparseTilesGroup*>(packed);
  auto* first = reinterpret_cast<uint32_t*>(group + groups);
  std::vector<Slot> slots;
  for (int g = 0; g < groups; ++g) {
    group[g] = for_each_panel(weights, g, [&](int panel, const std::vector<Slot>& of_panel) {
      first[panel] = static_cast<uint32_t>(slots.size());
      slots.insert(slots.end(), of_panel.begin(), of_panel.end());
    });
  }
  first[groups * kTilesPanels] = static_cast<uint32_t>(slots.size());
  const SparseTiles tiles = sparse_tiles(packed, weights.n);
  auto* values = const_cast<int8_t*>(tiles.weights);
  auto* index = const_cast<uint8_t*>(tiles.index);
  auto* chunk = const_cast<uint16_t*>(tiles.chunk);
  for (const Slot& slot : slots) {
    std::memcpy(values, slot.weights, sizeof(slot.weights));
    std::memcpy(index, slot.index, sizeof(slot.index));
    *chunk++ = slot.chunk;
    values += sizeof(slot.weights);
    index += sizeof(slot.index);
  }
}

// Inputs [chunks + 1][pixels]; sums [4 panels][pixels][16]; the constants of the epilogue in the order of the
// lanes; pieces of the inputs.
size_t scratch_bytes_block4_tiles(const ConvInt8Args& args) {
  const size_t channels = static_cast<size_t>(groups_of(args.n)) * kTilesGroup;
  const size_t inputs =
      (static_cast<size_t>(tiles_chunks(args.taps, args.k)) + 1) * kTilesPixels * kTilesChunk;
  const size_t pieces = static_cast<size_t>(args.taps) * static_cast<size_t>(tiles_pieces_of_tap(args.k));
  return inputs + (kTilesPanels * kTilesPixels * kSixteen + 3 * channels) * 4 + pieces * sizeof(TilesPiece);
}

}  // namespace conv_int8
}  // namespace pyruntime
