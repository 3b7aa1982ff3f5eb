// panel16_mixed of pack.h.
#include <cstring>

#include "kernels/conv_int8/pack.h"

namespace pyruntime {
namespace conv_int8 {
namespace {

constexpr size_t kNarrowBytes = 64, kWideBytes = 128;

int groups_of(const ConvInt8Weights& weights) { return (weights.k + 3) / 4; }

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

bool is_wide(const ConvInt8Weights& weights, int panel, int t, int g) {
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
  return static_cast<uint32_t>(8 + 4 * (2 * weights.taps + 1));
}

uint32_t weight_offset(const ConvInt8Weights& weights) {
  const size_t groups = static_cast<size_t>(weights.taps) * groups_of(weights);
  return static_cast<uint32_t>(round_up(group_offset(weights) + 2 * groups, 64));
}

size_t panel_bytes(const ConvInt8Weights& weights, int panel) {
  size_t bytes = weight_offset(weights);
  for (int t = 0; t < weights.taps; ++t) {
    for (int g = 0; g < groups_of(weights); ++g)
      bytes += is_wide(weights, panel, t, g) ? kWideBytes : kNarrowBytes;
  }
  return bytes;
}

void write_narrow(const ConvInt8Weights& weights, int panel, int t, int g, uint8_t* out) {
  int w[4];
  for (int o = 0; o < 16; ++o) {
    read_group(weights, 16 * panel + o, t, g, w);
    for (int i = 0; i < 4; ++i) out[4 * o + i] = static_cast<uint8_t>(w[i]);
  }
}

void write_wide(const ConvInt8Weights& weights, int panel, int t, int g, uint8_t* out) {
  int w[4];
  for (int o = 0; o < 16; ++o) {
    read_group(weights, 16 * panel + o, t, g, w);
    for (int i = 0; i < 4; ++i) {
      const int16_t value = static_cast<int16_t>(w[i]);
      std::memcpy(out + 64 * (i % 2) + 4 * o + 2 * (i / 2), &value, 2);
    }
  }
}

// Writes the panel and returns its size in bytes.
size_t pack_panel(const ConvInt8Weights& weights, int panel, uint8_t* out) {
  const uint32_t head[2] = {group_offset(weights), weight_offset(weights)};
  std::memcpy(out, head, 8);
  uint8_t* columns = out + head[1];
  uint32_t count = 0;
  for (int half = 0; half < 2 * weights.taps; ++half) {
    std::memcpy(out + 8 + 4 * half, &count, 4);
    const int t = half / 2;
    const bool wide = half % 2 == 1;
    for (int g = 0; g < groups_of(weights); ++g) {
      if (is_wide(weights, panel, t, g) != wide) continue;
      const uint16_t index = static_cast<uint16_t>(g);
      std::memcpy(out + head[0] + 2 * count, &index, 2);
      ++count;
      (wide ? write_wide : write_narrow)(weights, panel, t, g, columns);
      columns += wide ? kWideBytes : kNarrowBytes;
    }
  }
  std::memcpy(out + 8 + 4 * 2 * weights.taps, &count, 4);
  return static_cast<size_t>(columns - out);
}

}  // namespace

size_t packed_bytes_panel16_mixed(const ConvInt8Weights& weights) {
  size_t bytes = table_bytes(weights);
  for (int panel = 0; panel < (weights.n + 15) / 16; ++panel) bytes += panel_bytes(weights, panel);
  return bytes;
}

void pack_panel16_mixed(const ConvInt8Weights& weights, void* packed) {
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
