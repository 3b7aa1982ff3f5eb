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

// A weight's part in the two sums of its pair, by its byte: of the positive ones, and 16 bits up.
struct Loads {
  uint32_t of[256];
  constexpr Loads() : of() {
    for (uint32_t i = 0; i < 128; ++i) of[i] = i;
    for (uint32_t i = 128; i < 256; ++i) of[i] = (256 - i) << 16;
  }
};
constexpr Loads kLoads;

Entry make_entry(uint16_t block, uint32_t weights) {
  const uint32_t low = kLoads.of[weights & 0xFF] + kLoads.of[weights >> 8 & 0xFF];
  const uint32_t high = kLoads.of[weights >> 16 & 0xFF] + kLoads.of[weights >> 24];
  const uint32_t peak = std::max(std::max(low & 0xFFFF, low >> 16), std::max(high & 0xFFFF, high >> 16));
  return {low | static_cast<uint64_t>(high) << 32, static_cast<int32_t>(weights), block,
          static_cast<uint16_t>(peak)};
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

// The nonzero blocks of a channel, [taps][groups], as entries; two where the sums of a pair of weights could
// leave 16 bits.
void find_entries(const uint32_t* blocks, int count, std::vector<Entry>* entries) {
  entries->resize(2 * static_cast<size_t>(count));
  Entry* end = entries->data();
  for (int i = 0; i < count; ++i) {
    if (blocks[i] == 0) continue;
    const Entry whole = make_entry(static_cast<uint16_t>(i), blocks[i]);
    if (whole.peak <= kMostLoad) {
      *end++ = whole;
    } else {
      *end++ = make_entry(whole.block, blocks[i] & 0x00FF00FF);
      *end++ = make_entry(whole.block, blocks[i] & 0xFF00FF00);
    }
  }
  entries->resize(static_cast<size_t>(end - entries->data()));
}

// Where the next entry of the packed weights goes.
struct Output {
  int32_t* weights;
  std::vector<uint16_t> blocks;  // stand behind all weights, of which the number is not known yet

  void append(const Entry& e) {
    *weights++ = e.weights;
    blocks.push_back(e.block);
  }
};

// Writes the entries, the largest first (`left` is used up), each with a partner if it has one; then, to
// `singles`, those that have none. The largest takes the largest of the few smallest it fits with. Trying 16
// leaves 1-3 % more sums to widen than trying all, in linear time.
void pair_up(std::vector<Entry>* left_entries, std::vector<Entry>* singles, Output* out) {
  constexpr size_t kTried = 16;
  Entry* left = left_entries->data();
  singles->clear();
  for (size_t i = 0, end = left_entries->size(); i < end; ++i) {
    size_t j = std::max(i + 1, end - std::min(end, kTried));
    while (j < end && !fit_together(left[i], left[j])) ++j;
    if (j >= end) {
      singles->push_back(left[i]);
      continue;
    }
    out->append(left[i]);
    out->append(left[j]);
    for (--end; j < end; ++j) left[j] = left[j + 1];
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
  Output out{reinterpret_cast<int32_t*>(static_cast<uint8_t*>(packed) + header_bytes(weights.n)), {}};
  const int groups = (weights.k + 3) / 4;
  std::vector<uint32_t> blocks(static_cast<size_t>(weights.taps) * groups, 0);
  std::vector<Entry> entries, sorted, singles;
  const int8_t* w = weights.w;
  for (int o = 0; o < weights.n; ++o) {
    for (int t = 0; t < weights.taps; ++t, w += weights.k)
      std::memcpy(&blocks[static_cast<size_t>(t) * groups], w, static_cast<size_t>(weights.k));
    find_entries(blocks.data(), weights.taps * groups, &entries);
    sort_by_peak(entries, &sorted);
    *first++ = static_cast<uint32_t>(out.blocks.size());
    pair_up(&sorted, &singles, &out);
    *first++ = static_cast<uint32_t>(out.blocks.size());
    for (const Entry& e : singles) out.append(e);
  }
  *first = static_cast<uint32_t>(out.blocks.size());
  std::copy(out.blocks.begin(), out.blocks.end(),
            const_cast<uint16_t*>(sparse_pairs(packed, weights.n).block));
}

}  // namespace conv_int8
}  // namespace pyruntime
