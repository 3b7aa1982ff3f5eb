// 1x4-block weights for few pixels (sparse_rows.h) on vectors of 32 bytes: AVX2 and AVX-VNNI. The eight
// inputs of a slot are fetched by scalar-indexed loads and merged by unpacks: 5 cycles on Zen 4, where
// vpgatherdd takes 10.
#pragma once

#include <immintrin.h>

#include "kernels/conv_int8/sparse_pixel.h"
#include "kernels/conv_int8/sparse_rows.h"
#include "kernels/requantize_avx2.h"

namespace pyruntime {
namespace {

// Adds to each dword the products of 4 inputs x and weights w. The source that includes this defines it.
__m256i add_products(__m256i acc, __m256i x, __m256i w);

// Weights are read this far ahead: else one stream waits for the last-level cache, a fifth of the time.
constexpr int kPrefetchBytes = 1536;

using conv_int8::kRowsBlock;
using conv_int8::kRowsLanes;
using conv_int8::kRowsSlotBytes;
using conv_int8::SparseRowsBlock;

[[gnu::always_inline]] inline __m128i load_dword(const uint8_t* inputs, uint64_t position) {
  return _mm_loadu_si32(inputs + 4 * position);
}

// Inputs of four lanes from four u16 positions.
[[gnu::always_inline]] inline __m128i load_four(const uint8_t* inputs, uint64_t positions) {
  const __m128i lo = _mm_unpacklo_epi32(load_dword(inputs, positions & 0xffff),
                                        load_dword(inputs, __builtin_ia32_bextr_u64(positions, 0x1010)));
  const __m128i hi = _mm_unpacklo_epi32(load_dword(inputs, __builtin_ia32_bextr_u64(positions, 0x1020)),
                                        load_dword(inputs, positions >> 48));
  return _mm_unpacklo_epi64(lo, hi);
}

[[gnu::always_inline]] inline __m256i add_slot(__m256i acc, const uint8_t* inputs, const uint8_t* slot) {
  _mm_prefetch(reinterpret_cast<const char*>(slot) + kPrefetchBytes, _MM_HINT_T0);
  uint64_t first, second;
  __builtin_memcpy(&first, slot, 8);
  __builtin_memcpy(&second, slot + 8, 8);
  const __m256i x =
      _mm256_inserti128_si256(_mm256_castsi128_si256(load_four(inputs, first)), load_four(inputs, second), 1);
  const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(slot + 16));
  return add_products(acc, x, w);
}

__m256i accumulate(const uint8_t* inputs, const uint8_t* slot, int slots) {
  __m256i acc = _mm256_setzero_si256();
#pragma GCC unroll 2
  for (int s = 0; s < slots; ++s) acc = add_slot(acc, inputs, slot + s * kRowsSlotBytes);
  return acc;
}

// Sums of one block of 128 channels in their own order.
void accumulate_block(const SparseRowsBlock& block, const uint8_t* slots, const uint8_t* inputs, int channels,
                      int32_t* sums) {
  const uint8_t* slot = slots + static_cast<size_t>(block.first_slot) * kRowsSlotBytes;
  for (int g = 0; g * kRowsLanes < channels; ++g) {
    alignas(32) int32_t lane[kRowsLanes];
    _mm256_store_si256(reinterpret_cast<__m256i*>(lane), accumulate(inputs, slot, block.slots[g]));
    slot += static_cast<size_t>(block.slots[g]) * kRowsSlotBytes;
    const int count = channels - g * kRowsLanes < kRowsLanes ? channels - g * kRowsLanes : kRowsLanes;
    for (int i = 0; i < count; ++i) sums[block.channel[g * kRowsLanes + i]] = lane[i];
  }
}

void run_sparse_rows(const ConvInt8Args& args) {
  const auto* blocks = static_cast<const SparseRowsBlock*>(args.w);
  const uint8_t* slots = conv_int8::sparse_rows_slots(args.w, args.n);
  const int tap_bytes = (args.k + 3) / 4 * 4;
  auto* sums = static_cast<int32_t*>(args.scratch);
  auto* inputs = reinterpret_cast<uint8_t*>(sums + kRowsBlock);
  for (int row = 0; row < args.rows; ++row) {
    for (int col = 0; col < args.cols; ++col) {
      gather_taps(args, pixel_x(args, row, col), tap_bytes, args.taps * tap_bytes, inputs);
      const uint8_t* residual = pixel_residual(args.requantize, row, col);
      for (int o = args.n_begin; o < args.n_end; o += kRowsBlock) {
        const int left = args.n - o;
        const int channels = left < kRowsBlock ? left : kRowsBlock;
        accumulate_block(blocks[o / kRowsBlock], slots, inputs, channels, sums);
        for (int i = 0; i < channels; i += 8) {
          const __m256i acc = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(sums + i));
          const __m256i init =
              _mm256_loadu_si256(reinterpret_cast<const __m256i*>(args.requantize.acc_init + o + i));
          requantize_store8(args.requantize, _mm256_add_epi32(acc, init), o + i, channels - i, residual,
                            pixel_y(args, row, col));
        }
      }
    }
  }
}

}  // namespace
}  // namespace pyruntime
