#include "kernels/conv_int8/int4.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace pyruntime {
namespace conv_int8 {
namespace {

constexpr int kLowest = -kInt4Offset, kHighest = 15 - kInt4Offset;

// One block of one output channel, in words, whose loops compilers turn into whole vectors. Missing input
// channels are zero.
struct Block {
  int16_t w[kInt4Block];
  uint16_t magnitude[kInt4Block];
};

Block block_of(const ConvInt8Weights& weights, int channel, int tap, int first) {
  const ptrdiff_t row = static_cast<ptrdiff_t>(channel) * weights.taps + tap;
  const int8_t* w = weights.w + row * weights.k + first;
  int8_t part[kInt4Block] = {};
  if (weights.k - first < kInt4Block) {
    std::memcpy(part, w, static_cast<size_t>(weights.k - first));
    w = part;
  }
  Block block;
  for (int i = 0; i < kInt4Block; ++i) block.w[i] = w[i];
  for (int i = 0; i < kInt4Block; ++i)
    block.magnitude[i] =
        static_cast<uint16_t>(std::max<int16_t>(block.w[i], static_cast<int16_t>(-block.w[i])));
  return block;
}

// v * reciprocal(m) >> 16 is v / m, rounded down, for v and m of up to 8 bits, m at least 2.
uint16_t reciprocal(int m) { return static_cast<uint16_t>((65536 + m - 1) / m); }

uint16_t divided(uint16_t v, uint16_t reciprocal_of_m) {
  return static_cast<uint16_t>((static_cast<uint32_t>(v) * reciprocal_of_m) >> 16);
}

bool all_multiples(const Block& block, int m) {
  if (m == 1) return true;
  const uint16_t factor = reciprocal(m), divisor = static_cast<uint16_t>(m);
  uint16_t rest = 0;
  for (int i = 0; i < kInt4Block; ++i) {
    const uint16_t v = block.magnitude[i];
    rest = static_cast<uint16_t>(rest | (v - divided(v, factor) * divisor));
  }
  return rest == 0;
}

// The multiplier of the block, 0 if it has none.
int multiplier_of(const Block& block) {
  constexpr int16_t kNone = 0x7fff;
  int16_t low = 0, high = 0, smallest = kNone;  // of the magnitudes that are not zero, less 1
  for (int i = 0; i < kInt4Block; ++i) {
    low = std::min(low, block.w[i]);
    high = std::max(high, block.w[i]);
    smallest = std::min(smallest, static_cast<int16_t>((block.magnitude[i] - 1) & kNone));
  }
  if (low >= kLowest && high <= kHighest) return 1;
  // A multiplier divides the smallest magnitude; the largest ones leave the smallest levels.
  for (int part = 1; part <= smallest + 1; ++part) {
    if ((smallest + 1) % part != 0) continue;
    const int m = (smallest + 1) / part;
    if (low < kLowest * m || high > kHighest * m) return 0;
    if (all_multiples(block, m)) return m;
  }
  return 0;
}

// level + kInt4Offset of each weight.
void write_levels(const Block& block, int multiplier, uint8_t* levels) {
  const uint16_t factor = multiplier == 1 ? 0 : reciprocal(multiplier);
  for (int i = 0; i < kInt4Block; ++i) {
    const uint16_t v = block.magnitude[i], level = factor == 0 ? v : divided(v, factor);
    const int16_t sign = static_cast<int16_t>(block.w[i] >> 15);  // 0 or -1
    levels[i] = static_cast<uint8_t>((level ^ sign) - sign + kInt4Offset);
  }
}

// The nibbles and multipliers of a block of 16 output channels.
void pack_block(const ConvInt8Weights& weights, int panel, int tap, int first, uint8_t* nibbles,
                uint8_t* multipliers) {
  uint8_t levels[16][kInt4Block];
  for (int i = 0; i < 16; ++i) {
    const int channel = 16 * panel + i;
    const Block block = channel < weights.n ? block_of(weights, channel, tap, first) : Block{};
    const int multiplier = multiplier_of(block);
    write_levels(block, multiplier, levels[i]);
    multipliers[i] = static_cast<uint8_t>(multiplier);
  }
  for (int group = 0; group < kInt4Block / 4; ++group) {
    for (int i = 0; i < 8; ++i, nibbles += 4) {
      uint32_t low, high;
      std::memcpy(&low, levels[i] + 4 * group, 4);
      std::memcpy(&high, levels[i + 8] + 4 * group, 4);
      const uint32_t both = low | high << 4;
      std::memcpy(nibbles, &both, 4);
    }
  }
}

}  // namespace

bool fits_int4(const ConvInt8Weights& weights) {
  for (int channel = 0; channel < weights.n; ++channel)
    for (int tap = 0; tap < weights.taps; ++tap)
      for (int first = 0; first < weights.k; first += kInt4Block)
        if (multiplier_of(block_of(weights, channel, tap, first)) == 0) return false;
  return true;
}

size_t packed_bytes_panel16_int4(const ConvInt8Weights& weights) {
  const size_t panels = static_cast<size_t>(weights.n + 15) / 16;
  return panels * static_cast<size_t>(int4_panel_stride(int4_blocks(weights.taps, weights.k)));
}

void pack_panel16_int4(const ConvInt8Weights& weights, void* packed) {
  const int blocks = int4_blocks(weights.taps, weights.k);
  const ptrdiff_t stride = int4_panel_stride(blocks);
  for (int panel = 0; panel < (weights.n + 15) / 16; ++panel) {
    uint8_t* nibbles = static_cast<uint8_t*>(packed) + panel * stride;
    uint8_t* multipliers = nibbles + static_cast<ptrdiff_t>(blocks) * kInt4BlockBytes;
    for (int tap = 0; tap < weights.taps; ++tap) {
      for (int first = 0; first < weights.k; first += kInt4Block) {
        pack_block(weights, panel, tap, first, nibbles, multipliers);
        nibbles += kInt4BlockBytes;
        multipliers += 16;
      }
    }
  }
}

}  // namespace conv_int8
}  // namespace pyruntime
