// Sparse weights for many pixels, for kernels with VPDPBUSD: the lists of nonzero 1x4 blocks of two output
// channels walked side by side. The end of a list is a mispredicted branch, which costs as much as six
// blocks: so lists end two by two, and within every group of 16 channels they are sorted by length, which
// leaves little to pad.
//
// Packed form, block4_twins: uint32 first[8 * groups + 1], the steps of each pair of channels; uint8
// channel[16 * groups], which two channels of the group; then, 64-byte aligned, for both channels of every
// step int32 weights (four s8, zero where the shorter list has ended) and uint16 block = tap * ceil(k / 4) +
// channel / 4.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/conv_int8/conv_int8.h"

namespace pyruntime {
namespace conv_int8 {

constexpr int kTwinGroup = 16;   // channels
constexpr int kTwinPixels = 16;  // a vector
constexpr int kTwinVectors = 8;  // of a strip, at most

struct SparseTwins {
  const uint32_t* first;
  const uint8_t* channel;
  const int32_t* weights;
  const uint16_t* block;
};

// View of what pack_block4_twins wrote.
static inline SparseTwins sparse_twins(const void* packed, int n) {
  const size_t groups = static_cast<size_t>((n + kTwinGroup - 1) / kTwinGroup),
               pairs = groups * kTwinGroup / 2;
  SparseTwins t;
  t.first = static_cast<const uint32_t*>(packed);
  t.channel = reinterpret_cast<const uint8_t*>(t.first + pairs + 1);
  const uintptr_t end = reinterpret_cast<uintptr_t>(t.channel + groups * kTwinGroup);
  t.weights = reinterpret_cast<const int32_t*>((end + 63) / 64 * 64);
  t.block = reinterpret_cast<const uint16_t*>(t.weights + 2 * static_cast<size_t>(t.first[pairs]));
  return t;
}

// Inputs of neighbouring pixels overlap in a window whose taps lie whole pixels apart: then every pixel is
// transposed once, not once for every tap, and a tap is a distance between places.
struct TwinWindow {
  bool shared = false;
  int row_places = 0;  // from a row of outputs to the next
  int reach = 0;       // the farthest tap, in places
  int blocks = 0;      // of 4 channels in a place

  // Forced inline: built for several instruction sets, no copy of it may be shared between them.
  [[gnu::always_inline]] int places(int vectors) const {
    return (vectors * kTwinPixels + reach + kTwinPixels - 1) / kTwinPixels * kTwinPixels;
  }
};

[[gnu::always_inline]] static inline TwinWindow twin_window(const ConvInt8Args& args) {
  TwinWindow window;
  const ptrdiff_t pixel = args.x_col_stride;
  if (pixel <= 0 || pixel % 4 != 0 || args.x_row_stride % pixel != 0) return window;
  for (int t = 0; t < args.taps; ++t) {
    const int32_t first = args.tap_offset[t], last = first + (args.k - 1) / 4 * 4;
    if (first < 0 || first % 4 != 0) return window;
    // A tap is part of a pixel, or whole pixels. Where it is neither, outputs step over several pixels, and
    // half of the places would lie between rows.
    if (first / pixel != last / pixel && (first % pixel != 0 || args.k % pixel != 0)) return window;
    const int reach = static_cast<int>(last / pixel);
    const int blocks = static_cast<int>((first / pixel == last / pixel ? last % pixel : pixel - 4) / 4 + 1);
    window.reach = reach > window.reach ? reach : window.reach;
    window.blocks = blocks > window.blocks ? blocks : window.blocks;
  }
  window.row_places = static_cast<int>(args.x_row_stride / pixel);
  if (args.rows <= 1) window.row_places = args.cols;
  window.shared = window.reach > 0;
  return window;
}

// Transposed inputs of a strip: [blocks][places] of a window, else [taps][blocks][vectors of 16 pixels].
static inline size_t twin_input_entries(const ConvInt8Args& args, const TwinWindow& window, int vectors) {
  if (window.shared) return static_cast<size_t>(window.blocks) * static_cast<size_t>(window.places(vectors));
  return static_cast<size_t>(args.taps) * static_cast<size_t>((args.k + 3) / 4) *
         static_cast<size_t>(vectors) * kTwinPixels;
}

// Pixel vectors worked on together: their inputs should stay in L1, but fewer than 4 cost more than that.
static inline int twin_vectors(const ConvInt8Args& args, const TwinWindow& window) {
  constexpr size_t kInputBytes = 32 * 1024;
  constexpr int kFewest = 4;
  int vectors = kTwinVectors;
  while (vectors > kFewest && twin_input_entries(args, window, vectors) * 4 > kInputBytes) --vectors;
  return vectors;
}

// int32 entries of the table of places, whole cache lines.
static inline size_t twin_place_entries(const ConvInt8Args& args) {
  return (static_cast<size_t>(args.taps) * static_cast<size_t>((args.k + 3) / 4) + 15) / 16 * 16;
}

// place[block] = where the inputs of a block of a shared window start, for strips of `vectors`, in dwords.
static inline void place_twin_blocks(const ConvInt8Args& args, const TwinWindow& window, int vectors,
                                     int32_t* place) {
  const int blocks = (args.k + 3) / 4, places = window.places(vectors);
  const int pixel_blocks = static_cast<int>(args.x_col_stride / 4);
  for (int t = 0; t < args.taps; ++t) {
    int32_t* of_tap = place + t * blocks;
    // One division a tap: one for each of 1152 blocks took a tenth of a layer of 7x7 pixels.
    int in_pixel = args.tap_offset[t] / 4 % pixel_blocks, distance = args.tap_offset[t] / 4 / pixel_blocks;
    for (int b = 0; b < blocks; ++b) {
      of_tap[b] = in_pixel * places + distance;
      if (++in_pixel == pixel_blocks) {
        in_pixel = 0;
        ++distance;
      }
    }
  }
}

size_t packed_bytes_block4_twins(const ConvInt8Weights& weights);
void pack_block4_twins(const ConvInt8Weights& weights, void* packed);
size_t scratch_bytes_block4_twins(const ConvInt8Args& args);

}  // namespace conv_int8
}  // namespace pyruntime
