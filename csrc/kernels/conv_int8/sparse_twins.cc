#include "kernels/conv_int8/sparse_twins.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/conv_int8/sparse_blocks.h"

namespace pyruntime {
namespace conv_int8 {
namespace {

// Blocks of every channel of a group, and its channels from the longest list to the shortest.
struct Group {
  uint32_t blocks[kTwinGroup] = {};
  uint8_t channel[kTwinGroup];

  Group(const ConvInt8Weights& weights, int first) {
    for (int i = 0; i < kTwinGroup && first + i < weights.n; ++i)
      blocks[i] = static_cast<uint32_t>(count_blocks(weights, first + i, false));
    std::iota(channel, channel + kTwinGroup, uint8_t{0});
    std::stable_sort(channel, channel + kTwinGroup,
                     [&](uint8_t a, uint8_t b) { return blocks[a] > blocks[b]; });
  }

  uint32_t steps(int pair) const { return blocks[channel[2 * pair]]; }
};

}  // namespace

size_t packed_bytes_block4_twins(const ConvInt8Weights& weights) {
  size_t steps = 0, groups = 0;
  for (int o = 0; o < weights.n; o += kTwinGroup, ++groups) {
    const Group group(weights, o);
    for (int pair = 0; pair < kTwinGroup / 2; ++pair) steps += group.steps(pair);
  }
  const size_t tables = (groups * kTwinGroup / 2 + 1) * 4 + groups * kTwinGroup;
  return (tables + 63) / 64 * 64 + steps * 2 * 6;
}

void pack_block4_twins(const ConvInt8Weights& weights, void* packed) {
  std::memset(packed, 0, packed_bytes_block4_twins(weights));
  const int groups = (weights.n + kTwinGroup - 1) / kTwinGroup;
  auto* first = static_cast<uint32_t*>(packed);
  auto* channel = reinterpret_cast<uint8_t*>(first + groups * (kTwinGroup / 2) + 1);
  uint32_t total = 0;
  for (int g = 0; g < groups; ++g, channel += kTwinGroup) {
    const Group group(weights, g * kTwinGroup);
    std::copy_n(group.channel, kTwinGroup, channel);
    for (int pair = 0; pair < kTwinGroup / 2; ++pair) {
      *first++ = total;
      total += group.steps(pair);
    }
  }
  *first = total;
  const SparseTwins twins = sparse_twins(packed, weights.n);
  auto* values = const_cast<int32_t*>(twins.weights);
  auto* block = const_cast<uint16_t*>(twins.block);
  for (int i = 0; i < groups * kTwinGroup; ++i) {
    const int o = i / kTwinGroup * kTwinGroup + twins.channel[i];
    if (o >= weights.n) continue;
    size_t at = 2 * static_cast<size_t>(twins.first[i / 2]) + static_cast<size_t>(i % 2);
    for_each_block(weights, o, false, [&](int b, const int8_t* value) {
      std::memcpy(values + at, value, 4);
      block[at] = static_cast<uint16_t>(b);
      at += 2;
    });
  }
}

// The table of places, sums [16 channels][vectors], inputs, and one pixel of outputs that nobody wants.
size_t scratch_bytes_block4_twins(const ConvInt8Args& args) {
  const TwinWindow window = twin_window(args);
  const int vectors = twin_vectors(args, window);
  const size_t sums = static_cast<size_t>(kTwinGroup) * static_cast<size_t>(vectors) * kTwinPixels;
  const size_t pixel = (static_cast<size_t>(args.n) + kTwinGroup) * 4;
  return (twin_place_entries(args) + sums + twin_input_entries(args, window, vectors)) * 4 + pixel;
}

}  // namespace conv_int8
}  // namespace pyruntime
