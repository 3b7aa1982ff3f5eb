// Packed forms of the weights of conv_int8. Every packing <p> has packed_bytes_<p>, pack_<p> and, for the
// kernels that read it, scratch_bytes_<p>. The sparse ones are in sparse_*.h.
//
// rows: [n][taps][k], the dense array itself.
//
// panel16: [n/16][taps][ceil(k/4)][16 output channels][4 input channels]. The 64 bytes of one k group are one
// vector of 16 dwords for VPDPBUSD. Missing channels are zero.
//
// panel16_split: for VPMADDUBSW, which adds pairs of u8 x s8 products with 16-bit saturation. Groups of 4
// input channels as in panel16, but a group in which some pair could saturate is stored as two whose weights
// add up to it (each half the size, so no pair can): the sums stay exact. See SplitPanel.
//
// panel16_k64: panel16 with k padded to 64 per tap. 16 k groups, 1024 bytes, are one tile for TDPBUSD.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/conv_int8/conv_int8.h"

namespace pyruntime {
namespace conv_int8 {

// Bytes from one panel to the next. Kernels read several panels side by side, so a multiple of 4 KB is
// avoided: all streams would meet in one set of the first-level cache.
[[gnu::always_inline]] static inline ptrdiff_t panel16_stride(int taps, int k, int k_granule) {
  const ptrdiff_t groups = (k + k_granule - 1) / k_granule * (k_granule / 4);
  const ptrdiff_t bytes = taps * groups * 64;
  return bytes % 4096 == 0 ? bytes + 64 : bytes;
}

// Header of one panel in panel16_split, at byte offset panel_offset[p] (uint32_t, at the start of the packed
// weights). Then follow uint16_t group[entries] from group_offset on and the weights [entries][16][4] from
// weight_offset on (bytes from the header); entries of tap t are entry_begin[t] to entry_begin[t + 1].
struct SplitPanel {
  uint32_t group_offset, weight_offset;
  uint32_t entry_begin[1];  // [taps + 1]
};

size_t packed_bytes_rows(const ConvInt8Weights& weights);
void pack_rows(const ConvInt8Weights& weights, void* packed);

size_t packed_bytes_panel16(const ConvInt8Weights& weights);
void pack_panel16(const ConvInt8Weights& weights, void* packed);

size_t packed_bytes_panel16_split(const ConvInt8Weights& weights);
void pack_panel16_split(const ConvInt8Weights& weights, void* packed);

size_t packed_bytes_panel16_k64(const ConvInt8Weights& weights);
void pack_panel16_k64(const ConvInt8Weights& weights, void* packed);

inline size_t scratch_bytes_rows(const ConvInt8Args&) { return 0; }
inline size_t scratch_bytes_panel16(const ConvInt8Args&) { return 0; }
inline size_t scratch_bytes_panel16_split(const ConvInt8Args&) { return 0; }
inline size_t scratch_bytes_panel16_k64(const ConvInt8Args&) { return 0; }

}  // namespace conv_int8
}  // namespace pyruntime
