// The parts of the packing panel16_mixed (pack.h) that look at every weight. Built for AVX2, as its kernels
// are, and plain functions of memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pyruntime {
namespace conv_int8 {

// Products of two weights with any x0, x1 in [0, 255] stay in 16 bits if the positive ones of the weights
// come to at most 128 and the negative ones to at least -128: 255 * 128 fits, 255 * 129 does not.
constexpr int kMostOfASign = 128;
constexpr size_t kNarrowBytes = 64, kWideBytes = 128;

// Groups of a panel, [groups][16 output channels][4 input channels], from its 16 rows [groups][4].
void narrow_groups__avx2(const int8_t* const* rows, size_t groups, uint8_t* narrow);

// Of each group, what the positive weights of each of the 32 pairs come to and what the negative ones,
// without sign and cut at 255, in an order of its own; and the largest of these 64 sums.
void pair_sums__avx2(const uint8_t* narrow, size_t groups, uint8_t* sums, uint8_t* peaks);

// How many groups of the 16 rows have a peak above kMostOfASign.
size_t count_wide__avx2(const int8_t* const* rows, size_t groups);

// Pairs groups whose sums may be added in 16 bits. Of `open`, groups by peak, the one with the largest is
// taken and joined to the first it fits among the few with the smallest. paired[i] and paired[i + 1] fit
// together (i even), single ones found no partner; returns how many are paired. `open` is used up.
size_t pair_groups__avx2(const uint8_t* sums, uint32_t* open, size_t count, uint32_t* paired,
                         uint32_t* single);

// (w0, w2) of each channel in 16 bits, then (w1, w3).
void write_wide__avx2(const uint8_t* narrow, uint8_t* out);

}  // namespace conv_int8
}  // namespace pyruntime
