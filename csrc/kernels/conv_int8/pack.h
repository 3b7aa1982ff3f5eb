// Packed forms of the weights of conv_int8. Every packing <p> has packed_bytes_<p>, pack_<p> and, for the
// kernels that read it, scratch_bytes_<p>. The sparse ones are in sparse_*.h.
//
// rows: [n][taps][k], the dense array itself.
//
// panel16: [n/16][taps][ceil(k/4)][16 output channels][4 input channels]. The 64 bytes of one k group are one
// vector of 16 dwords for VPDPBUSD. Missing channels are zero.
//
// panel16_8: panel16, whose last channels may be in panels of 8 (panel8.h).
//
// panel16_mixed: for VPMADDUBSW, which adds pairs of u8 x s8 products with 16-bit saturation. Groups of 4
// input channels as in panel16; a group in which some pair could saturate is stored in 16 bits, for VPMADDWD,
// and two groups whose sums cannot saturate when added stand side by side. See MixedPanel.
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

// Header of one panel in panel16_mixed, at byte offset panel_offset[p] (uint32_t, at the start of the packed
// weights). Then follow, at byte offsets from the header, uint32_t group[taps * groups], the groups of all
// taps (tap * groups + group of the tap) in the order in which their weights stand, and the weights. Up to
// paired_end, each two groups may be added in 16 bits; up to narrow_end they are int8_t [16 output
// channels][4], then, up to wide_end, int16_t [2][16][2]: first the even, then the odd ones of the 4 input
// channels.
struct MixedPanel {
  uint32_t group_offset, weight_offset;
  uint32_t paired_end, narrow_end, wide_end;
};

// Which parts of the groups are in each form, estimated from at most 64 groups of each of three panels.
struct MixedShares {
  double paired = 0.0, narrow = 0.0, wide = 0.0;
};
MixedShares estimate_mixed_shares(const ConvInt8Weights& weights);

size_t packed_bytes_rows(const ConvInt8Weights& weights);
void pack_rows(const ConvInt8Weights& weights, void* packed);

size_t packed_bytes_panel16(const ConvInt8Weights& weights);
void pack_panel16(const ConvInt8Weights& weights, void* packed);

size_t packed_bytes_panel16_8(const ConvInt8Weights& weights);
void pack_panel16_8(const ConvInt8Weights& weights, void* packed);

size_t packed_bytes_panel16_mixed(const ConvInt8Weights& weights);
void pack_panel16_mixed(const ConvInt8Weights& weights, void* packed);

size_t packed_bytes_panel16_k64(const ConvInt8Weights& weights);
void pack_panel16_k64(const ConvInt8Weights& weights, void* packed);

inline size_t scratch_bytes_rows(const ConvInt8Args&) { return 0; }
inline size_t scratch_bytes_panel16(const ConvInt8Args&) { return 0; }
inline size_t scratch_bytes_panel16_8(const ConvInt8Args&) { return 0; }
inline size_t scratch_bytes_panel16_mixed(const ConvInt8Args& args) {
  return static_cast<size_t>(args.taps) * static_cast<size_t>((args.k + 3) / 4) * sizeof(int32_t);
}
inline size_t scratch_bytes_panel16_k64(const ConvInt8Args&) { return 0; }

}  // namespace conv_int8
}  // namespace pyruntime
