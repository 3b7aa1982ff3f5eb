#include "kernels/conv_int8/sparse_pairs.h"

#include <array>
#include <cstring>
#include <vector>

#include "kernels/conv_int8/sparse_blocks.h"

namespace pyruntime {
namespace conv_int8 {
namespace {

struct Entry {
  uint16_t block;
  std::array<int8_t, 4> w;
  std::array<int16_t, 4> load;  // of (w0, w1), then (w2, w3): sum of the positive, of the negative weights
  int peak;                     // largest load
};

Entry make_entry(int block, const int8_t* w) {
  Entry e{static_cast<uint16_t>(block), {w[0], w[1], w[2], w[3]}, {}, 0};
  for (int i = 0; i < 4; ++i) {
    int16_t& load = e.load[i / 2 * 2 + (w[i] < 0)];
    load = static_cast<int16_t>(load + (w[i] < 0 ? -w[i] : w[i]));
  }
  e.peak = *std::max_element(e.load.begin(), e.load.end());
  return e;
}

// The sums of both in 16 bits: 255 * 128 = 32640.
bool fit_together(const Entry& a, const Entry& b) {
  constexpr int kMost = 128;
  for (int i = 0; i < 4; ++i) {
    if (a.load[i] + b.load[i] > kMost) return false;
  }
  return true;
}

struct Channel {
  std::vector<Entry> doubles, singles;
};

// The largest block takes the largest of the few smallest it fits with. Trying 16 leaves 1-3 % more sums
// to widen than trying all, in linear time.
Channel pair_channel(const ConvInt8Weights& weights, int channel) {
  constexpr size_t kTried = 16;
  std::vector<Entry> left;
  for_each_block(weights, channel, true,
                 [&](int block, const int8_t* w) { left.push_back(make_entry(block, w)); });
  std::stable_sort(left.begin(), left.end(), [](const Entry& a, const Entry& b) { return a.peak > b.peak; });
  Channel result;
  for (size_t i = 0; i < left.size(); ++i) {
    const Entry large = left[i];
    size_t j = std::max(i + 1, left.size() - std::min(left.size(), kTried));
    while (j < left.size() && !fit_together(large, left[j])) ++j;
    if (j >= left.size()) {
      result.singles.push_back(large);
      continue;
    }
    result.doubles.push_back(large);
    result.doubles.push_back(left[j]);
    left.erase(left.begin() + static_cast<ptrdiff_t>(j));
  }
  return result;
}

}  // namespace

size_t packed_bytes_block4_pairs(const ConvInt8Weights& weights) {
  size_t entries = 0;
  for (int o = 0; o < weights.n; ++o)
    for_each_block(weights, o, true, [&](int, const int8_t*) { ++entries; });
  return ((2 * static_cast<size_t>(weights.n) + 1) * 4 + 63) / 64 * 64 + entries * 6;
}

void pack_block4_pairs(const ConvInt8Weights& weights, void* packed) {
  auto* first = static_cast<uint32_t*>(packed);
  std::vector<Entry> entries;
  for (int o = 0; o < weights.n; ++o) {
    const Channel channel = pair_channel(weights, o);
    *first++ = static_cast<uint32_t>(entries.size());
    entries.insert(entries.end(), channel.doubles.begin(), channel.doubles.end());
    *first++ = static_cast<uint32_t>(entries.size());
    entries.insert(entries.end(), channel.singles.begin(), channel.singles.end());
  }
  *first = static_cast<uint32_t>(entries.size());
  const SparseList list = sparse_pairs(packed, weights.n);
  auto* values = const_cast<int32_t*>(list.weights);
  auto* block = const_cast<uint16_t*>(list.block);
  for (const Entry& e : entries) {
    std::memcpy(values++, e.w.data(), 4);
    *block++ = e.block;
  }
}

// Inputs [blocks][vectors][lanes] dwords, then sums [8 channels][vectors][lanes].
size_t scratch_bytes_block4_pairs(const ConvInt8Args& args) {
  const size_t blocks = static_cast<size_t>(args.taps) * ((args.k + 3) / 4);
  return (blocks + 8) * pair_vectors(args) * kPairLanes * 4;
}

}  // namespace conv_int8
}  // namespace pyruntime
