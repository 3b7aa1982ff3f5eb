#include "kernels/conv_int8/sparse_rows.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/conv_int8/sparse_blocks.h"

namespace pyruntime {
namespace conv_int8 {
namespace {

// Of each channel; `split` says whether blocks that could saturate count twice.
std::vector<int> blocks_per_channel(const ConvInt8Weights& weights, bool split) {
  std::vector<int> count(weights.n, 0);
  for (int o = 0; o < weights.n; ++o) count[o] = static_cast<int>(count_blocks(weights, o, split));
  return count;
}

// Sorted channels and slot counts of the block of channels that starts at `first`; returns its number of
// slots.
uint32_t plan_block(const std::vector<int>& count, int first, SparseRowsBlock* block) {
  const int channels = std::min<int>(kRowsBlock, static_cast<int>(count.size()) - first);
  std::vector<int> order(channels);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return count[first + a] < count[first + b]; });
  std::memset(block->slots, 0, sizeof(block->slots));
  std::memset(block->channel, 0, sizeof(block->channel));
  uint32_t slots = 0;
  for (int g = 0; g * kRowsLanes < channels; ++g) {
    const int last = std::min(channels, (g + 1) * kRowsLanes) - 1;
    block->slots[g] = static_cast<uint16_t>(count[first + order[last]]);
    slots += block->slots[g];
  }
  for (int i = 0; i < channels; ++i) block->channel[i] = static_cast<uint8_t>(order[i]);
  return slots;
}

size_t packed_bytes(const ConvInt8Weights& weights, bool split) {
  const std::vector<int> count = blocks_per_channel(weights, split);
  size_t slots = 0;
  SparseRowsBlock block;
  for (int first = 0; first < weights.n; first += kRowsBlock) slots += plan_block(count, first, &block);
  return static_cast<size_t>(sparse_rows_slots(nullptr, weights.n) - static_cast<const uint8_t*>(nullptr)) +
         slots * kRowsSlotBytes;
}

void pack(const ConvInt8Weights& weights, bool split, void* packed) {
  const std::vector<int> count = blocks_per_channel(weights, split);
  auto* table = static_cast<SparseRowsBlock*>(packed);
  auto* slots = const_cast<uint8_t*>(sparse_rows_slots(packed, weights.n));
  uint32_t total = 0;
  for (int first = 0; first < weights.n; first += kRowsBlock) {
    SparseRowsBlock& block = table[first / kRowsBlock];
    const uint32_t used = plan_block(count, first, &block);
    block.first_slot = total;
    std::memset(slots + static_cast<size_t>(total) * kRowsSlotBytes, 0,
                static_cast<size_t>(used) * kRowsSlotBytes);
    uint32_t group_slot = total;
    for (int i = 0; i < std::min(kRowsBlock, weights.n - first); ++i) {
      if (i > 0 && i % kRowsLanes == 0) group_slot += block.slots[i / kRowsLanes - 1];
      uint8_t* slot = slots + static_cast<size_t>(group_slot) * kRowsSlotBytes;
      for_each_block(weights, first + block.channel[i], split, [&](int position, const int8_t* value) {
        const uint16_t index = static_cast<uint16_t>(position);
        std::memcpy(slot + i % kRowsLanes * 2, &index, 2);
        std::memcpy(slot + kRowsLanes * 2 + i % kRowsLanes * 4, value, 4);
        slot += kRowsSlotBytes;
      });
    }
    total += used;
  }
}

}  // namespace

size_t packed_bytes_block4_rows(const ConvInt8Weights& weights) { return packed_bytes(weights, true); }
void pack_block4_rows(const ConvInt8Weights& weights, void* packed) { pack(weights, true, packed); }

size_t packed_bytes_block4_whole_rows(const ConvInt8Weights& weights) { return packed_bytes(weights, false); }
void pack_block4_whole_rows(const ConvInt8Weights& weights, void* packed) { pack(weights, false, packed); }

size_t scratch_bytes_block4_rows(const ConvInt8Args& args) {
  return static_cast<size_t>(args.taps) * ((args.k + 3) / 4 * 4) + 64 + kRowsBlock * sizeof(int32_t);
}

size_t scratch_bytes_block4_whole_rows(const ConvInt8Args& args) { return scratch_bytes_block4_rows(args); }

}  // namespace conv_int8
}  // namespace pyruntime
