// Packed weights of every row: [ceil(n / n_block)][taps][k][n_block], output channels past n zero. Included
// by each ISA source; anonymous namespace, so each keeps its own copy.
#pragma once

#include <cstddef>

namespace pyruntime {
namespace {

template <int kBlock>
size_t packed_bytes(int n, int taps, int k) {
  const size_t blocks = (static_cast<size_t>(n) + kBlock - 1) / kBlock;
  return blocks * kBlock * static_cast<size_t>(taps) * static_cast<size_t>(k) * sizeof(float);
}

template <int kBlock>
void pack(const float* w, int n, int taps, int k, void* packed) {
  float* out = static_cast<float*>(packed);
  const ptrdiff_t depth = static_cast<ptrdiff_t>(taps) * k;
  for (int block = 0; block < n; block += kBlock)
    for (ptrdiff_t d = 0; d < depth; ++d)
      for (int o = block; o < block + kBlock; ++o) *out++ = o < n ? w[o * depth + d] : 0.0f;
}

// Of one tap and weights [k][n]: the second operand of a product of matrices.
template <int kBlock>
void pack_matrix(const float* w, int n, int k, void* packed) {
  float* out = static_cast<float*>(packed);
  for (int block = 0; block < n; block += kBlock) {
    const int width = n - block < kBlock ? n - block : kBlock;
    for (int d = 0; d < k; ++d, out += kBlock) {
      const float* row = w + static_cast<ptrdiff_t>(d) * n + block;
      if (width == kBlock) {
        for (int o = 0; o < kBlock; ++o) out[o] = row[o];
      } else {
        for (int o = 0; o < kBlock; ++o) out[o] = o < width ? row[o] : 0.0f;
      }
    }
  }
}

}  // namespace
}  // namespace pyruntime
