// panel16_split of pack.h.
#include <cstring>

#include "kernels/conv_int8/pack.h"

namespace pyruntime {
namespace conv_int8 {
namespace {

// The 4 weights of output channel o, tap t, group g; zero outside the layer.
void read_group(const ConvInt8Weights& weights, int o, int t, int g, int (&w)[4]) {
  for (int i = 0; i < 4; ++i) {
    const int c = 4 * g + i;
    const bool present = o < weights.n && c < weights.k;
    w[i] = present ? weights.w[(static_cast<ptrdiff_t>(o) * weights.taps + t) * weights.k + c] : 0;
  }
}

// x0 * a + x1 * b with x in [0, 255] lies between 255 times the sum of the negative and that of the positive
// weights.
bool may_saturate(int a, int b) {
  const int positive = (a > 0 ? a : 0) + (b > 0 ? b : 0), negative = (a < 0 ? a : 0) + (b < 0 ? b : 0);
  return 255 * positive > 32767 || 255 * negative < -32768;
}

bool needs_split(const ConvInt8Weights& weights, int panel, int t, int g) {
  int w[4];
  for (int o = 16 * panel; o < 16 * panel + 16; ++o) {
    read_group(weights, o, t, g, w);
    if (may_saturate(w[0], w[1]) || may_saturate(w[2], w[3])) return true;
  }
  return false;
}

size_t round_up(size_t value, size_t granule) { return (value + granule - 1) / granule * granule; }

size_t table_bytes(const ConvInt8Weights& weights) {
  return round_up(static_cast<size_t>((weights.n + 15) / 16) * 4, 64);
}

uint32_t group_offset(const ConvInt8Weights& weights) {
  return static_cast<uint32_t>(8 + 4 * (weights.taps + 1));
}

uint32_t weight_offset(const ConvInt8Weights& weights, size_t entries) {
  return static_cast<uint32_t>(round_up(group_offset(weights) + 2 * entries, 64));
}

size_t count_entries(const ConvInt8Weights& weights, int panel) {
  size_t entries = 0;
  for (int t = 0; t < weights.taps; ++t) {
    for (int g = 0; g < (weights.k + 3) / 4; ++g) entries += needs_split(weights, panel, t, g) ? 2 : 1;
  }
  return entries;
}

// Writes the panel and returns its size in bytes.
size_t pack_panel(const ConvInt8Weights& weights, int panel, uint8_t* out) {
  const size_t entries = count_entries(weights, panel);
  const uint32_t head[2] = {group_offset(weights), weight_offset(weights, entries)};
  std::memcpy(out, head, 8);
  uint8_t* begin = out + 8;
  uint8_t* group = out + head[0];
  int8_t* columns = reinterpret_cast<int8_t*>(out + head[1]);
  uint32_t entry = 0;
  for (int t = 0; t < weights.taps; ++t) {
    std::memcpy(begin + 4 * t, &entry, 4);
    for (int g = 0; g < (weights.k + 3) / 4; ++g) {
      const int parts = needs_split(weights, panel, t, g) ? 2 : 1;
      for (int part = 0; part < parts; ++part, ++entry) {
        const uint16_t index = static_cast<uint16_t>(g);
        std::memcpy(group + 2 * entry, &index, 2);
        for (int o = 0; o < 16; ++o) {
          int w[4];
          read_group(weights, 16 * panel + o, t, g, w);
          for (int i = 0; i < 4; ++i) {
            const int half = w[i] / 2;  // |half| and |w - half| are at most 64
            *columns++ = static_cast<int8_t>(parts == 1 ? w[i] : part == 0 ? half : w[i] - half);
          }
        }
      }
    }
  }
  std::memcpy(begin + 4 * weights.taps, &entry, 4);
  return head[1] + 64 * entries;
}

}  // namespace

size_t packed_bytes_panel16_split(const ConvInt8Weights& weights) {
  size_t bytes = table_bytes(weights);
  for (int panel = 0; panel < (weights.n + 15) / 16; ++panel) {
    const size_t entries = count_entries(weights, panel);
    bytes += weight_offset(weights, entries) + 64 * entries;
  }
  return bytes;
}

void pack_panel16_split(const ConvInt8Weights& weights, void* packed) {
  uint8_t* out = static_cast<uint8_t*>(packed);
  size_t at = table_bytes(weights);
  std::memset(out, 0, at);
  for (int panel = 0; panel < (weights.n + 15) / 16; ++panel) {
    const uint32_t offset = static_cast<uint32_t>(at);
    std::memcpy(out + 4 * panel, &offset, 4);
    at += pack_panel(weights, panel, out + at);
  }
}

}  // namespace conv_int8
}  // namespace pyruntime
