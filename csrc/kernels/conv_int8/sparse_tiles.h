// Sparse weights for many pixels, for kernels with VPDPBUSD and VPERMT2D: 16 output channels side by side as
// in sparse_lanes.h, a tile of pixels for every slot.
//
// The inputs of an output pixel, tap * round_up(k, 4) + channel, are cut into chunks of 64 bytes. A slot is
// 16 lanes, one per output channel, and a window of two chunks that follow one another: lane i holds one
// nonzero 1x4 block of its channel and which dword of the window it multiplies.
//
// A lane is empty (zero weights) where its channel has no block left in the window, so the channels of a
// panel should have equally many. In a group of 64 channels each sixteen is sorted by its blocks: panel v
// takes the v-th four of every sixteen. Their bytes come to stand in one 128-bit lane of the packed results,
// where one VPSHUFB sorts them back.
//
// Packed form, block4_tiles, of ceil(n / 64) groups: SparseTilesHeader; uint32 first slot[4 * groups + 1] of
// the panels; SparseTilesGroup[groups], 64-byte aligned; of all slots int8 weights[16][4], uint8 dword of the
// window[16], uint16 chunk.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/conv_int8/conv_int8.h"

namespace pyruntime {
namespace conv_int8 {

constexpr int kTilesGroup = 64;  // output channels
constexpr int kTilesPanels = 4;  // of a group
constexpr int kTilesChunk = 64;  // bytes of inputs
constexpr int kTilesPixels = 14;

// Where the channels of a group stand. Lane 4 L + i of panel v is channel 16 L + order[16 L + 4 v + i].
struct SparseTilesGroup {
  uint8_t order[kTilesGroup];
  uint8_t place[kTilesGroup];                   // the inverse: order[16 L + place[16 L + c]] = c
  uint8_t residual[kTilesPanels][kTilesGroup];  // order of a panel as VPSHUFB of bytes to dwords
};

struct SparseTiles {
  const uint32_t* first;
  const SparseTilesGroup* group;
  const int8_t* weights;
  const uint8_t* index;
  const uint16_t* chunk;
};

[[gnu::always_inline]] static inline int tiles_chunks(int taps, int k) {
  return (taps * ((k + 3) / 4 * 4) + kTilesChunk - 1) / kTilesChunk;
}

// What a masked load of 64 bytes at `from` of a pixel has to do with chunk `chunk`, `to` bytes into it.
struct TilesPiece {
  int32_t from, chunk, to;
  uint64_t mask;  // of the bytes of the chunk
};

// Pieces of a tap, at most.
[[gnu::always_inline]] static inline int tiles_pieces_of_tap(int k) { return (k + 3) / kTilesChunk + 2; }

// View of what pack_block4_tiles wrote.
[[gnu::always_inline]] static inline SparseTiles sparse_tiles(const void* packed, int n) {
  const size_t groups = static_cast<size_t>((n + kTilesGroup - 1) / kTilesGroup),
               panels = groups * kTilesPanels;
  SparseTiles t;
  t.group = static_cast<const SparseTilesGroup*>(packed);
  t.first = reinterpret_cast<const uint32_t*>(t.group + groups);
  const uintptr_t end = reinterpret_cast<uintptr_t>(t.first + panels + 1);
  t.weights = reinterpret_cast<const int8_t*>((end + 63) / 64 * 64);
  const size_t slots = t.first[panels];
  t.index = reinterpret_cast<const uint8_t*>(t.weights + slots * 64);
  t.chunk = reinterpret_cast<const uint16_t*>(t.index + slots * 16);
  return t;
}

size_t packed_bytes_block4_tiles(const ConvInt8Weights& weights);
void pack_block4_tiles(const ConvInt8Weights& weights, void* packed);
size_t scratch_bytes_block4_tiles(const ConvInt8Args& args);

}  // namespace conv_int8
}  // namespace pyruntime
