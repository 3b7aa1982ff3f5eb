// Packed forms of depthwise weights. Every packing <p> has packed_bytes_<p> and pack_<p>.
//
// taps: [kh][kw][channels].
//
// pairs: int16_t [channels/32][ceil(kh*kw/2)][4 vectors][2 halves][4 channels][2 taps]. Taps in (kh, kw)
// order, two by two for VPMADDWD; a missing second tap and missing channels are zero. Interleaving bytes
// works within 128-bit halves of 16 channels, so vector v, half l, dword d is channel 16 * l + 4 * v + d of
// the 32.
//
// quads: [channels/64][quads][4 vectors][4 lanes][4 channels][4 taps], for the VNNI rows. The 4 bytes of a
// dword meet four activations of one channel: four rows of a column (vertical quads, ordered by rows, then
// columns) or, if one row is left over, four columns of that row (horizontal quads, the last one ending with
// the row: its weights of taps that an earlier quad has are zero). QuadLayout lists them. Byte interleaving
// of 64 channels works within 128-bit lanes of 16 channels, so vector v, lane l, dword d is channel 16 * l +
// 4 * v + d of the block. The last block, if it has at most 32 (16) channels, repeats them in 2 (4) lane
// groups: the kernel puts as many pixels side by side.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pyruntime {
namespace depthwise_int8 {

// Pixels that one vector of 64 bytes holds in a block of `channels` channels.
[[gnu::always_inline]] static inline int quads_pixels(int channels) {
  return channels > 32 ? 1 : channels > 16 ? 2 : 4;
}

// The quads of a kh x kw window: vertical ones (i, j) -> index i * kw + j, covering rows 4 * i and following
// of column j, then horizontal ones, covering columns horizontal_column(h) and following of row kh - 1.
struct QuadLayout {
  int kh, kw;
  constexpr int vertical_rows() const { return kh % 4 == 1 ? kh / 4 : (kh + 3) / 4; }
  constexpr int vertical_count(int i) const { return kh - 4 * i < 4 ? kh - 4 * i : 4; }
  constexpr int horizontal() const { return kh % 4 == 1 ? (kw + 3) / 4 : 0; }
  constexpr int horizontal_column(int h) const { return 4 * h + 4 > kw && kw >= 4 ? kw - 4 : 4 * h; }
  constexpr int horizontal_count() const { return kw < 4 ? kw : 4; }
  constexpr int size() const { return vertical_rows() * kw + horizontal(); }
};

size_t packed_bytes_taps(int channels, int kh, int kw);
void pack_taps(const int8_t* w, int channels, int kh, int kw, void* packed);

size_t packed_bytes_pairs(int channels, int kh, int kw);
void pack_pairs(const int8_t* w, int channels, int kh, int kw, void* packed);

size_t packed_bytes_quads(int channels, int kh, int kw);
void pack_quads(const int8_t* w, int channels, int kh, int kw, void* packed);

}  // namespace depthwise_int8
}  // namespace pyruntime
