// Packed forms of depthwise weights. Every packing <p> has packed_bytes_<p> and pack_<p>.
//
// taps: [kh][kw][channels].
//
// pairs: int16_t [channels/16][ceil(kh*kw/2)][16 channels][2 taps]. Taps in (kh, kw) order, two by two for
// VPMADDWD; a missing second tap and missing channels are zero.
//
// quads: [channels/64][kw][ceil(kh/4)][4 vectors][4 lanes][4 channels][4 rows], for the VNNI rows. Bytes of
// one dword are four rows of one column. Byte interleaving of 64 channels works within 128-bit lanes of 16
// channels, so vector v, lane l, dword d is channel 16 * l + 4 * v + d of the block. The last block, if it
// has at most 32 (16) channels, repeats them in 2 (4) lane groups: the kernel puts as many pixels side by
// side.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pyruntime {
namespace depthwise_int8 {

// Pixels that one vector of 64 bytes holds in a block of `channels` channels.
[[gnu::always_inline]] static inline int quads_pixels(int channels) {
  return channels > 32 ? 1 : channels > 16 ? 2 : 4;
}

size_t packed_bytes_taps(int channels, int kh, int kw);
void pack_taps(const int8_t* w, int channels, int kh, int kw, void* packed);

size_t packed_bytes_pairs(int channels, int kh, int kw);
void pack_pairs(const int8_t* w, int channels, int kh, int kw, void* packed);

size_t packed_bytes_quads(int channels, int kh, int kw);
void pack_quads(const int8_t* w, int channels, int kh, int kw, void* packed);

}  // namespace depthwise_int8
}  // namespace pyruntime
