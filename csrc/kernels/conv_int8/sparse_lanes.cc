#include "kernels/conv_int8/sparse_lanes.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/conv_int8/sparse_blocks.h"

namespace pyruntime {
namespace conv_int8 {
namespace {

constexpr uint32_t kMostSteps = 255;  // a byte

int round_up(int v, int to) { return (v + to - 1) / to * to; }
size_t align64(size_t v) { return (v + 63) / 64 * 64; }

// What one channel has to place: nonzero 1x4 blocks, or nonzero weights, in input order.
struct Lane {
  std::vector<uint32_t> position;  // of the inputs, in bytes
  std::vector<uint32_t> weights;   // four, or one
  size_t next = 0;

  bool done() const { return next == position.size(); }
};

void fill_lane_of_blocks(const ConvInt8Weights& weights, int channel, Lane* lane) {
  for_each_block(weights, channel, false, [&](int block, const int8_t* w) {
    uint32_t bits;
    std::memcpy(&bits, w, 4);
    lane->position.push_back(4 * static_cast<uint32_t>(block));
    lane->weights.push_back(bits);
  });
}

void fill_lane_of_weights(const ConvInt8Weights& weights, int channel, Lane* lane) {
  constexpr int kAtOnce = 1024;
  const int8_t* w = weights.w + static_cast<ptrdiff_t>(channel) * weights.taps * weights.k;
  for (int tap = 0; tap < weights.taps; ++tap, w += weights.k) {
    for (int first = 0; first < weights.k; first += kAtOnce) {
      uint16_t number[kAtOnce];
      const int listed = list_blocks<1>(w + first, std::min(weights.k - first, kAtOnce), number);
      const uint32_t position = static_cast<uint32_t>(tap * round_up(weights.k, 4) + first);
      for (int i = 0; i < listed; ++i) {
        lane->position.push_back(position + number[i]);
        lane->weights.push_back(static_cast<uint8_t>(w[first + number[i]]));
      }
    }
  }
}

// index_bytes 1: blocks; 4: single weights.
void fill_lane(const ConvInt8Weights& weights, int channel, int index_bytes, Lane* lane) {
  lane->position.clear();
  lane->weights.clear();
  lane->next = 0;
  if (index_bytes == 1)
    fill_lane_of_blocks(weights, channel, lane);
  else
    fill_lane_of_weights(weights, channel, lane);
}

// The slots of one group, as they are packed.
struct Slots {
  std::vector<uint8_t> steps, index, weights;

  void add(uint32_t moved, int index_bytes) {
    steps.push_back(static_cast<uint8_t>(moved));
    index.resize(index.size() + static_cast<size_t>(kLanes * index_bytes), 0);
    weights.resize(weights.size() + kLanes * 4, 0);
  }
};

Slots place(const ConvInt8Weights& weights, int group, int index_bytes, std::vector<Lane>* lanes) {
  const int channels = std::min(kLanes, weights.n - group * kLanes);
  const int unit = index_bytes == 1 ? 4 : 1;
  for (int i = 0; i < channels; ++i)
    fill_lane(weights, group * kLanes + i, index_bytes, &(*lanes)[static_cast<size_t>(i)]);
  Slots slots;
  uint32_t window = 0;
  for (;;) {
    uint32_t lowest = UINT32_MAX;
    for (int i = 0; i < channels; ++i) {
      const Lane& lane = (*lanes)[static_cast<size_t>(i)];
      if (!lane.done()) lowest = std::min(lowest, lane.position[lane.next]);
    }
    if (lowest == UINT32_MAX) return slots;
    uint32_t steps = (lowest - window) / kWindowStep;
    window += steps * kWindowStep;
    for (; steps > kMostSteps; steps -= kMostSteps) slots.add(kMostSteps, index_bytes);  // empty slots
    slots.add(steps, index_bytes);
    uint8_t* index = slots.index.data() + slots.index.size() - static_cast<size_t>(kLanes * index_bytes);
    uint8_t* to = slots.weights.data() + slots.weights.size() - kLanes * 4;
    for (int i = 0; i < channels; ++i) {
      Lane& lane = (*lanes)[static_cast<size_t>(i)];
      for (int j = 0; j < index_bytes && !lane.done(); ++j, ++lane.next) {
        const uint32_t offset = lane.position[lane.next] - window;
        if (offset >= kWindowBytes) break;
        index[i * index_bytes + j] = static_cast<uint8_t>(offset / static_cast<uint32_t>(unit));
        std::memcpy(to + 4 * i + j, &lane.weights[lane.next], static_cast<size_t>(unit));
      }
    }
  }
}

int input_bytes(int taps, int k) { return round_up(taps * round_up(k, 4), kWindowStep) + kWindowBytes; }

// Where things stand for `slots` slots in all.
SparseLanesHeader header_for(const ConvInt8Weights& weights, size_t slots, int index_bytes) {
  const size_t groups = static_cast<size_t>((weights.n + kLanes - 1) / kLanes);
  SparseLanesHeader h{};
  h.input_bytes = input_bytes(weights.taps, weights.k);
  h.tap_bytes = round_up(weights.k, 4);
  const size_t steps = sizeof(SparseLanesHeader) + (groups + 1) * sizeof(uint32_t);
  const size_t index = align64(steps + slots);
  h.steps_offset = static_cast<uint32_t>(steps);
  h.index_offset = static_cast<uint32_t>(index);
  h.weights_offset =
      static_cast<uint32_t>(align64(index + slots * static_cast<size_t>(kLanes * index_bytes)));
  return h;
}

size_t packed_bytes(const ConvInt8Weights& weights, int index_bytes) {
  std::vector<Lane> lanes(kLanes);
  size_t slots = 0;
  for (int g = 0; g * kLanes < weights.n; ++g) slots += place(weights, g, index_bytes, &lanes).steps.size();
  return header_for(weights, slots, index_bytes).weights_offset + slots * kLanes * 4;
}

void pack(const ConvInt8Weights& weights, int index_bytes, void* packed) {
  std::vector<Lane> lanes(kLanes);
  std::vector<Slots> groups;
  size_t slots = 0;
  auto* first = reinterpret_cast<uint32_t*>(static_cast<SparseLanesHeader*>(packed) + 1);
  for (int g = 0; g * kLanes < weights.n; ++g) {
    *first++ = static_cast<uint32_t>(slots);
    groups.push_back(place(weights, g, index_bytes, &lanes));
    slots += groups.back().steps.size();
  }
  *first = static_cast<uint32_t>(slots);
  const SparseLanesHeader header = header_for(weights, slots, index_bytes);
  std::memcpy(packed, &header, sizeof(header));
  auto* base = static_cast<uint8_t*>(packed);
  uint8_t *steps = base + header.steps_offset, *index = base + header.index_offset,
          *w = base + header.weights_offset;
  for (const Slots& s : groups) {
    steps = std::copy(s.steps.begin(), s.steps.end(), steps);
    index = std::copy(s.index.begin(), s.index.end(), index);
    w = std::copy(s.weights.begin(), s.weights.end(), w);
  }
}

}  // namespace

size_t packed_bytes_block4_lanes(const ConvInt8Weights& weights) { return packed_bytes(weights, 1); }
void pack_block4_lanes(const ConvInt8Weights& weights, void* packed) { pack(weights, 1, packed); }
size_t packed_bytes_bitmask_lanes(const ConvInt8Weights& weights) { return packed_bytes(weights, 4); }
void pack_bitmask_lanes(const ConvInt8Weights& weights, void* packed) { pack(weights, 4, packed); }
size_t scratch_bytes_block4_lanes(const ConvInt8Args& args) {
  return static_cast<size_t>(input_bytes(args.taps, args.k));
}
size_t scratch_bytes_bitmask_lanes(const ConvInt8Args& args) { return scratch_bytes_block4_lanes(args); }

}  // namespace conv_int8
}  // namespace pyruntime
