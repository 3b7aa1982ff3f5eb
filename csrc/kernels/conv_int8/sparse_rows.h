// 1x4-block weights for few pixels on AVX2 and AVX-VNNI: 8 output channels side by side, each lane with its
// own list of blocks.
//
// Channels are taken in blocks of 128 and sorted by their number of blocks, so that 8 neighbours have nearly
// the same number and little is padded. A slot is 8 dword positions (u16, of the inputs laid out as in
// sparse_lanes.h) followed by 8 x 4 weights. In block4_rows, blocks whose pair sums could saturate vpmaddubsw
// are split as in sparse_pairs.h; in block4_whole_rows, for VPDPBUSD, none is.
//
// Packed form: SparseRowsBlock[ceil(n / 128)], then, 64-byte aligned, the slots of 48 bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/conv_int8/conv_int8.h"

namespace pyruntime {
namespace conv_int8 {

constexpr int kRowsBlock = 128;  // channels sorted together: n_block of the kernel
constexpr int kRowsLanes = 8;
constexpr int kRowsSlotBytes = kRowsLanes * (2 + 4);

struct SparseRowsBlock {
  uint32_t first_slot;
  uint16_t slots[kRowsBlock / kRowsLanes];  // per group of 8
  uint8_t channel[kRowsBlock];              // of sorted position i, within the block
};

size_t packed_bytes_block4_rows(const ConvInt8Weights& weights);
void pack_block4_rows(const ConvInt8Weights& weights, void* packed);
size_t scratch_bytes_block4_rows(const ConvInt8Args& args);

size_t packed_bytes_block4_whole_rows(const ConvInt8Weights& weights);
void pack_block4_whole_rows(const ConvInt8Weights& weights, void* packed);
size_t scratch_bytes_block4_whole_rows(const ConvInt8Args& args);

static inline const uint8_t* sparse_rows_slots(const void* packed, int n) {
  const size_t blocks = (static_cast<size_t>(n) + kRowsBlock - 1) / kRowsBlock;
  return static_cast<const uint8_t*>(packed) + (blocks * sizeof(SparseRowsBlock) + 63) / 64 * 64;
}

}  // namespace conv_int8
}  // namespace pyruntime
