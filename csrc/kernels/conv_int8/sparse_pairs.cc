#include "kernels/conv_int8/sparse_pairs.h"

#include <cstring>
#include <vector>

#include "kernels/conv_int8/sparse_blocks.h"

namespace pyruntime {
namespace conv_int8 {
namespace {

// Four sums decide which blocks may be added in 16 bits: of the positive and of the negative weights, of
// (w0, w1) and of (w2, w3). Each takes 16 bits of `load`.
struct Entry {
  uint64_t load;
  int32_t weights;
  uint16_t block;
  uint16_t peak;  // largest of the four sums
};

constexpr int kMostLoad = 128;  // 255 * 128 = 32640 fits s16

Entry make_entry(int block, const int8_t* w) {
  Entry e{0, 0, static_cast<uint16_t>(block), 0};
  std::memcpy(&e.weights, w, 4);
  for (int i = 0; i < 4; ++i)
    e.load += static_cast<uint64_t>(w[i] < 0 ? -w[i] : w[i]) << 16 * (i / 2 * 2 + (w[i] < 0));
  for (int i = 0; i < 4; ++i) e.peak = std::max(e.peak, static_cast<uint16_t>(e.load >> 16 * i));
  return e;
}

bool fit_together(const Entry& a, const Entry& b) {
  constexpr uint64_t kLanes = 0x0001000100010001u;
  return ((a.load + b.load + kLanes * (0x7fff - kMostLoad)) & (kLanes << 15)) == 0;
}

// Counting sort, largest first.
void sort_by_peak(const std::vector<Entry>& entries, std::vector<Entry>* sorted) {
  size_t begin[kMostLoad + 2] = {};
  for (const Entry& e : entries) ++begin[kMostLoad - e.peak + 1];
  for (int i = 1; i <= kMostLoad; ++i) begin[i] += begin[i - 1];
  sorted->resize(entries.size());
  for (const Entry& e : entries) (*sorted)[begin[kMostLoad - e.peak]++] = e;
}

size_t header_bytes(int n) { return ((2 * static_cast<size_t>(n) + 1) * 4 + 63) / 64 * 64; }

struct Channel {
  std::vector<Entry> entries, left, doubles, singles;  // kept from channel to channel
};

// The largest block takes the largest of the few smallest it fits with. Trying 16 leaves 1-3 % more sums
// to widen than trying all, in linear time.
void pair_channel(const ConvInt8Weights& weights, int channel, Channel* result) {
  constexpr size_t kTried = 16;
  result->entries.clear();
  for_each_block(weights, channel, true,
                 [&](int block, const int8_t* w) { result->entries.push_back(make_entry(block, w)); });
  std::vector<Entry>& left = result->left;
  sort_by_peak(result->entries, &left);
  result->doubles.clear();
  result->singles.clear();
  for (size_t i = 0, end = left.size(); i < end; ++i) {
    size_t j = std::max(i + 1, end - std::min(end, kTried));
    while (j < end && !fit_together(left[i], left[j])) ++j;
    if (j >= end) {
      result->singles.push_back(left[i]);
      continue;
    }
    result->doubles.push_back(left[i]);
    result->doubles.push_back(left[j]);
    std::memmove(&left[j], &left[j] + 1, (--end - j) * sizeof(Entry));
  }
}

}  // namespace

size_t packed_bytes_block4_pairs(const ConvInt8Weights& weights) {
  size_t entries = 0;
  for (int o = 0; o < weights.n; ++o) entries += count_blocks(weights, o, true);
  return header_bytes(weights.n) + entries * 6;
}

void pack_block4_pairs(const ConvInt8Weights& weights, void* packed) {
  auto* first = static_cast<uint32_t*>(packed);
  std::vector<uint16_t> blocks;  // stand behind all weights, of which the number is not known yet
  auto* values = reinterpret_cast<int32_t*>(static_cast<uint8_t*>(packed) + header_bytes(weights.n));
  const auto append = [&](const std::vector<Entry>& entries) {
    *first++ = static_cast<uint32_t>(blocks.size());
    for (const Entry& e : entries) {
      *values++ = e.weights;
      blocks.push_back(e.block);
    }
  };
  Channel channel;
  for (int o = 0; o < weights.n; ++o) {
    pair_channel(weights, o, &channel);
    append(channel.doubles);
    append(channel.singles);
  }
  *first = static_cast<uint32_t>(blocks.size());
  std::copy(blocks.begin(), blocks.end(), const_cast<uint16_t*>(sparse_pairs(packed, weights.n).block));
}

// Inputs [blocks][vectors][lanes] dwords, then sums [8 channels][vectors][lanes].
size_t scratch_bytes_block4_pairs(const ConvInt8Args& args) {
  const size_t blocks = static_cast<size_t>(args.taps) * ((args.k + 3) / 4);
  return (blocks + 8) * pair_vectors(args) * kPairLanes * 4;
}

}  // namespace conv_int8
}  // namespace pyruntime
