#include "kernels/conv_int8/sparse_twins.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/conv_int8/sparse_blocks.h"
#include "kernels/conv_int8/twin_window.h"

namespace pyruntime {
namespace conv_int8 {
namespace {

// In which chunk each block lies, [taps][blocks].
std::vector<uint16_t> chunk_of_blocks(const ConvInt8Weights& weights) {
  const int of_tap = (weights.k + 3) / 4, of_chunk = twin_chunk_blocks(weights.taps, weights.k);
  std::vector<uint16_t> chunk(static_cast<size_t>(weights.taps) * static_cast<size_t>(of_tap));
  for (size_t i = 0; i < chunk.size(); ++i)
    chunk[i] = static_cast<uint16_t>(static_cast<int>(i) % of_tap / of_chunk);
  return chunk;
}

// Blocks of every chunk and channel, [chunk][channels in groups].
std::vector<uint32_t> count_chunks(const ConvInt8Weights& weights) {
  const std::vector<uint16_t> chunk = chunk_of_blocks(weights);
  const size_t channels = static_cast<size_t>(weights.n + kTwinGroup - 1) / kTwinGroup * kTwinGroup;
  std::vector<uint32_t> counts(channels * static_cast<size_t>(twin_chunks(weights.taps, weights.k)));
  for (int o = 0; o < weights.n; ++o) {
    for_each_block(weights, o, false, [&](int b, const int8_t*) {
      ++counts[chunk[static_cast<size_t>(b)] * channels + static_cast<size_t>(o)];
    });
  }
  return counts;
}

// The channels of a group from the longest list to the shortest.
void sort_channels(const uint32_t* blocks, uint8_t* channel) {
  std::iota(channel, channel + kTwinGroup, uint8_t{0});
  std::stable_sort(channel, channel + kTwinGroup,
                   [&](uint8_t a, uint8_t b) { return blocks[a] > blocks[b]; });
}

// Bytes of first[], channel[] and position[].
size_t table_bytes(size_t channels) { return ((channels / 2 + 1) * 4 + 2 * channels + 63) / 64 * 64; }

size_t packed_bytes(const std::vector<uint32_t>& counts) {
  size_t steps = 0;
  uint8_t channel[kTwinGroup];
  for (size_t i = 0; i < counts.size(); i += kTwinGroup) {
    sort_channels(counts.data() + i, channel);
    for (size_t j = 0; j < kTwinGroup; j += 2) steps += counts[i + channel[j]];
  }
  return table_bytes(counts.size()) + steps * sizeof(TwinStep);
}

}  // namespace

size_t packed_bytes_block4_twins(const ConvInt8Weights& weights) {
  return packed_bytes(count_chunks(weights));
}

void pack_block4_twins(const ConvInt8Weights& weights, void* packed) {
  const std::vector<uint32_t> counts = count_chunks(weights);
  std::memset(packed, 0, packed_bytes(counts));
  auto* first = static_cast<uint32_t*>(packed);
  auto* channel = reinterpret_cast<uint8_t*>(first + counts.size() / 2 + 1);
  uint8_t* position = channel + counts.size();
  for (size_t i = 0; i < counts.size(); i += kTwinGroup) {
    sort_channels(counts.data() + i, channel + i);
    for (size_t j = 0; j < kTwinGroup; ++j) position[i + channel[i + j]] = static_cast<uint8_t>(j);
    for (size_t j = 0; j < kTwinGroup; j += 2)
      first[(i + j) / 2 + 1] = first[(i + j) / 2] + counts[i + channel[i + j]];
  }
  const SparseTwins twins = sparse_twins(packed, weights.n, weights.taps, weights.k);
  auto* steps = const_cast<TwinStep*>(twins.steps);
  const std::vector<uint16_t> chunk = chunk_of_blocks(weights);
  const size_t channels = static_cast<size_t>(twins.groups) * kTwinGroup;
  std::vector<size_t> next(static_cast<size_t>(twins.chunks)), twin(next.size());
  for (int o = 0; o < weights.n; ++o) {
    for (size_t c = 0; c < next.size(); ++c) {
      const size_t group = c * channels + static_cast<size_t>(o / kTwinGroup * kTwinGroup);
      const size_t place = group + position[group + static_cast<size_t>(o % kTwinGroup)];
      next[c] = first[place / 2];
      twin[c] = place % 2;
    }
    for_each_block(weights, o, false, [&](int b, const int8_t* value) {
      const size_t c = chunk[static_cast<size_t>(b)];
      TwinStep& step = steps[next[c]++];
      std::memcpy(step.weights + twin[c], value, 4);
      step.blocks |= static_cast<uint32_t>(b) << (16 * twin[c]);
    });
  }
}

// The table of places, bytes of 64 channels, sums, inputs, and one pixel of outputs that nobody wants.
size_t scratch_bytes_block4_twins(const ConvInt8Args& args) {
  constexpr size_t kLine = 64;
  const TwinWindow window = twin_window(args);
  constexpr size_t kStrip = static_cast<size_t>(kTwinVectors) * kTwinPixels;
  const size_t channels = twin_chunks(args.taps, args.k) == 1
                              ? kTwinGroup
                              : (static_cast<size_t>(args.n) + kTwinGroup - 1) / kTwinGroup * kTwinGroup;
  const size_t pixel = (static_cast<size_t>(args.n) + kLine) * 4;
  return twin_place_entries(args) * 4 + kLine * kStrip + channels * kStrip * 4 +
         twin_input_vectors(args, window) * kTwinPixels * 4 + pixel;
}

}  // namespace conv_int8
}  // namespace pyruntime
