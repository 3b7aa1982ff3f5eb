#include "kernels/conv_int8/sparse_list.h"

#include <cstring>
#include <utility>

#include "kernels/conv_int8/sparse_blocks.h"

namespace pyruntime {
namespace conv_int8 {

size_t packed_bytes_block4_list(const ConvInt8Weights& weights) {
  size_t blocks = 0;
  for (int o = 0; o < weights.n; ++o) blocks += count_blocks(weights, o, false);
  return ((static_cast<size_t>(weights.n) + 1) * 4 + 63) / 64 * 64 + blocks * 6;
}

void pack_block4_list(const ConvInt8Weights& weights, void* packed) {
  auto* first = static_cast<uint32_t*>(packed);
  uint32_t total = 0;
  for (int o = 0; o < weights.n; ++o) {
    first[o] = total;
    total += static_cast<uint32_t>(count_blocks(weights, o, false));
  }
  first[weights.n] = total;
  const SparseList list = sparse_list(packed, weights.n);
  auto* values = const_cast<int32_t*>(list.weights);
  auto* block = const_cast<uint16_t*>(list.block);
  for (int o = 0; o < weights.n; ++o) {
    for_each_block(weights, o, false, [&](int b, const int8_t* value) {
      std::memcpy(values++, value, 4);
      *block++ = static_cast<uint16_t>(b);
    });
  }
}

void pack_block4_strips(const ConvInt8Weights& weights, void* packed) {
  pack_block4_list(weights, packed);
  const SparseList list = sparse_list(packed, weights.n);
  auto* values = const_cast<int32_t*>(list.weights);
  auto* block = const_cast<uint16_t*>(list.block);
  uint32_t drawn = 1;
  for (int o = 0; o < weights.n; ++o) {
    for (uint32_t i = list.first[o], end = list.first[o + 1]; i < end; ++i) {
      drawn = drawn * 1664525u + 1013904223u;  // the generator of Numerical Recipes
      const uint32_t other = i + (drawn >> 8) % (end - i);
      std::swap(values[i], values[other]);
      std::swap(block[i], block[other]);
    }
  }
}

size_t scratch_bytes_block4_list(const ConvInt8Args& args) {
  return static_cast<size_t>(args.taps) * static_cast<size_t>((args.k + 3) / 4 * 4) + 64;
}

}  // namespace conv_int8
}  // namespace pyruntime
