// Sparse weights for many pixels: per output channel a list of its nonzero 1x4 blocks in input order.
//
// Packed form, block4_list: uint32 first[n + 1], then, 64-byte aligned, int32 weights[first[n]] (four s8) and
// uint16 block[first[n]] with block = tap * ceil(k / 4) + channel / 4. sparse_twins.h is the form for
// VPDPBUSD, sparse_pairs.h that for VPMADDUBSW.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/conv_int8/conv_int8.h"

namespace pyruntime {
namespace conv_int8 {

struct SparseList {
  const uint32_t* first;
  const int32_t* weights;
  const uint16_t* block;
};

// View of what pack_block4_list wrote.
static inline SparseList sparse_list(const void* packed, int n) {
  const auto* first = static_cast<const uint32_t*>(packed);
  const uintptr_t base = reinterpret_cast<uintptr_t>(packed);
  const uintptr_t weights = (base + (static_cast<size_t>(n) + 1) * 4 + 63) / 64 * 64;
  return {first, reinterpret_cast<const int32_t*>(weights),
          reinterpret_cast<const uint16_t*>(weights + static_cast<size_t>(first[n]) * 4)};
}

size_t packed_bytes_block4_list(const ConvInt8Weights& weights);
void pack_block4_list(const ConvInt8Weights& weights, void* packed);

size_t scratch_bytes_block4_list(const ConvInt8Args& args);

}  // namespace conv_int8
}  // namespace pyruntime
