#include "kernels/conv_int8/sparse_lanes.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

namespace pyruntime {
namespace conv_int8 {
namespace {

int round_up(int v, int to) { return (v + to - 1) / to * to; }

// Calls visit(window, index[4], weights[4]) for every slot lane of one output channel, in input order.
// index_bytes 1: nonzero 1x4 blocks; 4: nonzero weights, four of one window at a time.
template <typename Visit>
void for_each_lane(const ConvInt8Weights& weights, int channel, int index_bytes, Visit visit) {
  const int tap_bytes = round_up(weights.k, 4);
  const int8_t* w = weights.w + static_cast<ptrdiff_t>(channel) * weights.taps * weights.k;
  uint8_t index[4] = {};
  int8_t value[4] = {};
  int filled = 0, window = -1;
  auto flush = [&] {
    if (filled == 0) return;
    visit(window, index, value);
    std::memset(index, 0, 4);
    std::memset(value, 0, 4);
    filled = 0;
  };
  for (int tap = 0; tap < weights.taps; ++tap, w += weights.k) {
    for (int c = 0; c < weights.k; c += 4) {
      const int width = std::min(4, weights.k - c);
      const int position = tap * tap_bytes + c;
      const int here = position / kWindowBytes;
      if (std::all_of(w + c, w + c + width, [](int8_t v) { return v == 0; })) continue;
      if (here != window) flush();
      window = here;
      if (index_bytes == 1) {
        index[0] = static_cast<uint8_t>(position % kWindowBytes / 4);
        std::copy(w + c, w + c + width, value);
        filled = 4;
        flush();
        continue;
      }
      for (int i = 0; i < width; ++i) {
        if (w[c + i] == 0) continue;
        index[filled] = static_cast<uint8_t>((position + i) % kWindowBytes);
        value[filled++] = w[c + i];
        if (filled == 4) flush();
      }
    }
  }
  flush();
}

// The windows of one group: how many slots each needs, and their order.
struct GroupPlan {
  std::vector<int> slots;  // per window
  std::vector<int> order;  // windows with at least one slot, ascending by slots
  size_t total_slots = 0, run_words = 0;
};

GroupPlan plan_group(const ConvInt8Weights& weights, int group, int index_bytes, int windows) {
  GroupPlan plan;
  plan.slots.assign(windows, 0);
  std::vector<int> count(windows);
  for (int o = group * kLanes; o < std::min(weights.n, (group + 1) * kLanes); ++o) {
    std::fill(count.begin(), count.end(), 0);
    for_each_lane(weights, o, index_bytes,
                  [&](int window, const uint8_t*, const int8_t*) { ++count[window]; });
    for (int i = 0; i < windows; ++i) plan.slots[i] = std::max(plan.slots[i], count[i]);
  }
  for (int i = 0; i < windows; ++i)
    if (plan.slots[i] > 0) plan.order.push_back(i);
  std::stable_sort(plan.order.begin(), plan.order.end(),
                   [&](int a, int b) { return plan.slots[a] < plan.slots[b]; });
  int previous = 0;
  for (int window : plan.order) {
    plan.total_slots += plan.slots[window];
    plan.run_words += plan.slots[window] == previous ? 1 : 3;
    previous = plan.slots[window];
  }
  plan.run_words += 1;
  return plan;
}

int input_bytes(const ConvInt8Weights& weights) {
  return round_up(weights.taps * round_up(weights.k, 4), kWindowBytes);
}

struct Sizes {
  size_t run_words = 0, slots = 0;
};

size_t align64(size_t v) { return (v + 63) / 64 * 64; }

size_t packed_bytes(const ConvInt8Weights& weights, int index_bytes) {
  const int groups = (weights.n + kLanes - 1) / kLanes;
  const int windows = input_bytes(weights) / kWindowBytes;
  Sizes total;
  for (int g = 0; g < groups; ++g) {
    const GroupPlan plan = plan_group(weights, g, index_bytes, windows);
    total.run_words += plan.run_words;
    total.slots += plan.total_slots;
  }
  const size_t runs = align64(sizeof(SparseLanesHeader) + groups * sizeof(SparseLanesGroup));
  const size_t index = align64(runs + total.run_words * 2);
  return align64(index + total.slots * kLanes * index_bytes) + total.slots * kLanes * 4 + 64;
}

// Writes the runs of a group and where each window's first slot is.
uint16_t* write_runs(const GroupPlan& plan, uint16_t* run, size_t slot, std::vector<size_t>* first_slot) {
  uint16_t* windows_of_run = nullptr;
  int previous = 0;
  for (int window : plan.order) {
    if (plan.slots[window] != previous) {
      previous = plan.slots[window];
      *run++ = static_cast<uint16_t>(previous);
      windows_of_run = run++;
      *windows_of_run = 0;
    }
    ++*windows_of_run;
    *run++ = static_cast<uint16_t>(window);
    (*first_slot)[window] = slot;
    slot += plan.slots[window];
  }
  *run++ = 0;
  return run;
}

void pack(const ConvInt8Weights& weights, int index_bytes, void* packed) {
  const int groups = (weights.n + kLanes - 1) / kLanes;
  const int windows = input_bytes(weights) / kWindowBytes;
  const size_t bytes = packed_bytes(weights, index_bytes);
  std::memset(packed, 0, bytes);
  std::vector<GroupPlan> plans;
  Sizes total;
  auto* header = static_cast<SparseLanesHeader*>(packed);
  auto* group_table = reinterpret_cast<SparseLanesGroup*>(header + 1);
  for (int g = 0; g < groups; ++g) {
    plans.push_back(plan_group(weights, g, index_bytes, windows));
    group_table[g] = {static_cast<uint32_t>(total.run_words), static_cast<uint32_t>(total.slots)};
    total.run_words += plans.back().run_words;
    total.slots += plans.back().total_slots;
  }
  header->input_bytes = input_bytes(weights);
  header->tap_bytes = round_up(weights.k, 4);
  header->runs_offset =
      static_cast<uint32_t>(align64(sizeof(SparseLanesHeader) + groups * sizeof(SparseLanesGroup)));
  header->index_offset = static_cast<uint32_t>(align64(header->runs_offset + total.run_words * 2));
  header->weights_offset =
      static_cast<uint32_t>(align64(header->index_offset + total.slots * kLanes * index_bytes));
  auto* base = static_cast<uint8_t*>(packed);
  auto* run = reinterpret_cast<uint16_t*>(base + header->runs_offset);
  std::vector<size_t> next(windows);
  for (int g = 0; g < groups; ++g) {
    std::vector<size_t> first_slot(windows, 0);
    run = write_runs(plans[g], run, group_table[g].slot, &first_slot);
    for (int o = g * kLanes; o < std::min(weights.n, (g + 1) * kLanes); ++o) {
      next = first_slot;
      for_each_lane(weights, o, index_bytes, [&](int window, const uint8_t* index, const int8_t* value) {
        const size_t lane = next[window]++ * kLanes + o % kLanes;
        std::memcpy(base + header->index_offset + lane * index_bytes, index, index_bytes);
        std::memcpy(base + header->weights_offset + lane * 4, value, 4);
      });
    }
  }
}

size_t scratch_bytes(const ConvInt8Args& args) {
  return round_up(args.taps * round_up(args.k, 4), kWindowBytes);
}

}  // namespace

size_t packed_bytes_block4_lanes(const ConvInt8Weights& weights) { return packed_bytes(weights, 1); }
void pack_block4_lanes(const ConvInt8Weights& weights, void* packed) { pack(weights, 1, packed); }
size_t packed_bytes_bitmask_lanes(const ConvInt8Weights& weights) { return packed_bytes(weights, 4); }
void pack_bitmask_lanes(const ConvInt8Weights& weights, void* packed) { pack(weights, 4, packed); }
size_t scratch_bytes_block4_lanes(const ConvInt8Args& args) { return scratch_bytes(args); }
size_t scratch_bytes_bitmask_lanes(const ConvInt8Args& args) { return scratch_bytes(args); }

}  // namespace conv_int8
}  // namespace pyruntime
