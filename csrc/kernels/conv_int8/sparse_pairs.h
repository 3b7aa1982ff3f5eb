// Sparse weights for many pixels where products are taken by vpmaddubsw: as sparse_list.h, with two lists for
// each output channel.
//
//  singles  blocks, as in block4_list
//  doubles  blocks two by two, of which the 16-bit sums of vpmaddubsw may be added before vpmaddwd widens
//  them:
//           three multiplications instead of four
//
// vpmaddubsw adds two products x0 * w0 + x1 * w1 of 0 <= x <= 255 in 16 bits. They stay exact while the
// positive weights of the sum are at most 128 together and the negative ones at least -128. A block that
// breaks this is split into two, (w0, 0, w2, 0) and (0, w1, 0, w3).
//
// Packed form: uint32 first[2 n + 1]; the doubles of channel o are the entries first[2 o] .. first[2 o + 1],
// its singles those up to first[2 o + 2]. Then, 64-byte aligned, int32 weights[entries] (four s8) and uint16
// block[entries] with block = tap * ceil(k / 4) + channel / 4.
#pragma once

#include "kernels/conv_int8/conv_int8.h"
#include "kernels/conv_int8/sparse_list.h"

namespace pyruntime {
namespace conv_int8 {

static inline SparseList sparse_pairs(const void* packed, int n) { return sparse_list(packed, 2 * n); }

size_t packed_bytes_block4_pairs(const ConvInt8Weights& weights);
void pack_block4_pairs(const ConvInt8Weights& weights, void* packed);

constexpr int kPairVectors = 8;  // most vectors of pixels processed together

static inline int pair_vectors(const ConvInt8Args& args) {
  return strip_vectors(args, kPairVectors, 160 * 1024);
}

inline size_t scratch_bytes_block4_pairs(const ConvInt8Args& args) {
  return strip_bytes(args, pair_vectors(args));
}

}  // namespace conv_int8
}  // namespace pyruntime
