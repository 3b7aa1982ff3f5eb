#include "kernels/conv_int8/pack.h"

#include <cstring>

#include "kernels/conv_int8/panel8.h"
#include "kernels/conv_int8/panel_rows.h"

namespace pyruntime {
namespace conv_int8 {
namespace {

size_t panel16_bytes(const ConvInt8Weights& weights, int k_granule) {
  const size_t panels = static_cast<size_t>(weights.n + 15) / 16;
  return panels * static_cast<size_t>(panel16_stride(weights.taps, weights.k, k_granule));
}

void fill_panel16(const ConvInt8Weights& weights, int k_granule, void* packed) {
  int8_t* out = static_cast<int8_t*>(packed);
  std::memset(out, 0, panel16_bytes(weights, k_granule));
  const ptrdiff_t stride = panel16_stride(weights.taps, weights.k, k_granule);
  const ptrdiff_t tap_bytes =
      static_cast<ptrdiff_t>((weights.k + k_granule - 1) / k_granule) * k_granule * 16;
  PanelRows rows(weights);
  for (int panel = 0; panel < (weights.n + 15) / 16; ++panel) {
    rows.move_to(panel);
    for (int t = 0; t < weights.taps; ++t) {
      int8_t* to = out + panel * stride + t * tap_bytes;
      for (int g = 0; g < rows.groups(); ++g, to += 64) {
        for (int i = 0; i < 16; ++i) {
          const uint32_t four = rows.group(i, static_cast<size_t>(t) * rows.groups() + g);
          std::memcpy(to + 4 * i, &four, 4);
        }
      }
    }
  }
}

}  // namespace

size_t packed_bytes_rows(const ConvInt8Weights& weights) {
  return static_cast<size_t>(weights.n) * weights.taps * weights.k;
}

void pack_rows(const ConvInt8Weights& weights, void* packed) {
  std::memcpy(packed, weights.w, packed_bytes_rows(weights));
}

size_t packed_bytes_panel16(const ConvInt8Weights& weights) { return panel16_bytes(weights, 4); }
void pack_panel16(const ConvInt8Weights& weights, void* packed) { fill_panel16(weights, 4, packed); }

size_t packed_bytes_panel16_8(const ConvInt8Weights& weights) {
  const int first = first_of_panel8(weights.n, weights.taps, weights.k);
  const ptrdiff_t panels = (first + 15) / 16, narrow = (weights.n - first + 7) / 8;
  return static_cast<size_t>(panels * panel16_stride(weights.taps, weights.k, 4) +
                             narrow * panel8_stride(weights.taps, weights.k));
}

void pack_panel16_8(const ConvInt8Weights& weights, void* packed) {
  const int first = first_of_panel8(weights.n, weights.taps, weights.k);
  ConvInt8Weights wide = weights;
  wide.n = first;
  fill_panel16(wide, 4, packed);
  int8_t* panel = static_cast<int8_t*>(packed) + panel16_bytes(wide, 4);
  std::memset(panel, 0, packed_bytes_panel16_8(weights) - panel16_bytes(wide, 4));
  for (int o = first; o < weights.n; o += 8, panel += panel8_stride(weights.taps, weights.k)) {
    int8_t* to = panel;
    for (int t = 0; t < weights.taps; ++t) {
      for (int c = 0; c < weights.k; c += 8, to += 64) {
        const size_t bytes = static_cast<size_t>(weights.k - c < 8 ? weights.k - c : 8);
        for (int i = 0; i < 8 && o + i < weights.n; ++i) {
          const ptrdiff_t row = static_cast<ptrdiff_t>(o + i) * weights.taps + t;
          std::memcpy(to + 8 * i, weights.w + row * weights.k + c, bytes);
        }
      }
    }
  }
}

size_t packed_bytes_panel16_k64(const ConvInt8Weights& weights) { return panel16_bytes(weights, 64); }
void pack_panel16_k64(const ConvInt8Weights& weights, void* packed) { fill_panel16(weights, 64, packed); }

}  // namespace conv_int8
}  // namespace pyruntime
