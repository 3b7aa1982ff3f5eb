#include "kernels/conv_int8/sparse_list.h"

#include <cstring>

#include "kernels/conv_int8/sparse_blocks.h"

namespace pyruntime {
namespace conv_int8 {
namespace {

size_t packed_bytes(const ConvInt8Weights& weights, bool pairs) {
  size_t blocks = 0;
  for (int o = 0; o < weights.n; ++o)
    for_each_block(weights, o, pairs, [&](int, const int8_t*) { ++blocks; });
  return ((static_cast<size_t>(weights.n) + 1) * 4 + 63) / 64 * 64 + blocks * 6;
}

void pack(const ConvInt8Weights& weights, bool pairs, void* packed) {
  auto* first = static_cast<uint32_t*>(packed);
  uint32_t total = 0;
  for (int o = 0; o < weights.n; ++o) {
    first[o] = total;
    for_each_block(weights, o, pairs, [&](int, const int8_t*) { ++total; });
  }
  first[weights.n] = total;
  const SparseList list = sparse_list(packed, weights.n);
  auto* values = const_cast<int32_t*>(list.weights);
  auto* block = const_cast<uint16_t*>(list.block);
  for (int o = 0; o < weights.n; ++o) {
    for_each_block(weights, o, pairs, [&](int b, const int8_t* value) {
      std::memcpy(values++, value, 4);
      *block++ = static_cast<uint16_t>(b);
    });
  }
}

}  // namespace

size_t packed_bytes_block4_list(const ConvInt8Weights& weights) { return packed_bytes(weights, false); }
void pack_block4_list(const ConvInt8Weights& weights, void* packed) { pack(weights, false, packed); }
size_t packed_bytes_block4_pairs(const ConvInt8Weights& weights) { return packed_bytes(weights, true); }
void pack_block4_pairs(const ConvInt8Weights& weights, void* packed) { pack(weights, true, packed); }

namespace {

// Inputs [blocks rounded up to lanes][vectors * lanes] dwords, then sums [lanes][vectors * lanes].
size_t scratch_bytes(const ConvInt8Args& args, int lanes) {
  const size_t per_tap = static_cast<size_t>((args.k + 4 * lanes - 1) / (4 * lanes)) * lanes;
  return (args.taps * per_tap + lanes) * 4 * lanes * 4 + 64;
}

}  // namespace

size_t scratch_bytes_block4_list(const ConvInt8Args& args) { return scratch_bytes(args, 16); }
size_t scratch_bytes_block4_pairs(const ConvInt8Args& args) { return scratch_bytes(args, 8); }

}  // namespace conv_int8
}  // namespace pyruntime
