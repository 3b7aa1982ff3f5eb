// Register-blocked float convolution, once for AVX2 and AVX-512 (x86_vector_f32.h).
//
// A tile is P pixels x B weight blocks of two vectors of output channels; its 2*P*B accumulators stay in
// registers while taps and channels are walked. The walk reads two weight vectors a block and broadcasts one
// input value a pixel:
//
//            w[k][0..V)  w[k][V..2V)
//   x[p][k]   acc[p][0]   acc[p][1]      p = 0..P-1
//
// The pixels of the whole rows x cols grid are numbered through, so a tile may cross rows; the tiles of a
// call differ by one pixel at most. Few pixels take several weight blocks at once, to keep enough fmas in
// flight.
#pragma once

#include "kernels/conv_f32/conv_f32.h"
#include "kernels/conv_f32/pack.h"
#include "kernels/conv_f32/x86_vector_f32.h"

namespace pyruntime {
namespace {

constexpr int kBlock = 2 * kVector;                 // output channels of one weight block
constexpr int kMaxPixels = kVector == 16 ? 14 : 6;  // 28 of 32, or 12 of 16 registers are accumulators

struct Tile {
  const float* x[kMaxPixels];
  float* y[kMaxPixels];
  const float* residual[kMaxPixels];
};

// Stores the vector of output channels o.. of one pixel; past `end` nothing is written.
inline void finish(const ConvF32Args& a, Vector acc, int o, int end, float* y, const float* residual) {
  const Vector lo = broadcast(a.lo), hi = broadcast(a.hi);
  const int width = end - o;
  if (width >= kVector) {
    if (residual) acc = add(acc, load(residual + o));
    store(y + o, clamp(acc, lo, hi));
  } else if (width > 0) {
    const Mask mask = first_lanes(width);
    if (residual) acc = add(acc, load_masked(residual + o, mask));
    store_masked(y + o, mask, clamp(acc, lo, hi));
  }
}

// `w` points to the weights of block o / kBlock; the blocks follow each other block_stride floats apart.
template <int kPixels, int kVectors>
void run_tile(const ConvF32Args& a, const Tile& tile, const float* w, ptrdiff_t block_stride, int o,
              int end) {
  Vector acc[kPixels][kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const Vector bias = load(a.bias + o + v * kVector);
    for (int p = 0; p < kPixels; ++p) acc[p][v] = bias;
  }
  const float* x[kPixels];
  for (int p = 0; p < kPixels; ++p) x[p] = tile.x[p];

  for (int t = 0; t < a.taps; ++t) {
    const ptrdiff_t begin = a.tap_offset[t], stop = begin + static_cast<ptrdiff_t>(a.k) * 4;
    for (ptrdiff_t offset = begin; offset < stop; offset += 4) {
      Vector weight[kVectors];
      for (int v = 0; v < kVectors; ++v) weight[v] = load(w + (v / 2) * block_stride + (v % 2) * kVector);
      w += kBlock;
      for (int p = 0; p < kPixels; ++p) {
        const Vector value = broadcast(*at(x[p], offset));
        for (int v = 0; v < kVectors; ++v) acc[p][v] = fma(value, weight[v], acc[p][v]);
      }
    }
  }
  for (int p = 0; p < kPixels; ++p)
    for (int v = 0; v < kVectors; ++v)
      finish(a, acc[p][v], o + v * kVector, end, tile.y[p], tile.residual[p]);
}

// Output channels begin..end-1 of one tile of pixels; begin is a multiple of kBlock.
template <int kPixels, int kBlocks>
void run_channels(const ConvF32Args& a, const Tile& tile, int begin, int end) {
  const ptrdiff_t block_stride = static_cast<ptrdiff_t>(a.taps) * a.k * kBlock;
  const float* w = static_cast<const float*>(a.w) + begin / kBlock * block_stride;
  int o = begin;
  for (; o + kBlocks * kBlock <= end; o += kBlocks * kBlock, w += kBlocks * block_stride)
    run_tile<kPixels, 2 * kBlocks>(a, tile, w, block_stride, o, end);
  for (; o < end; o += kBlock, w += block_stride) {
    if (end - o > kVector)
      run_tile<kPixels, 2>(a, tile, w, block_stride, o, end);
    else
      run_tile<kPixels, 1>(a, tile, w, block_stride, o, end);
  }
}

// Turns the number of pixels of a tile into a template argument.
template <int kPixels = kMaxPixels>
void run_pixels(const ConvF32Args& a, const Tile& tile, int pixels, int begin, int end) {
  constexpr int kBlocks = kPixels == 1 ? 4 : kPixels == 2 || (kPixels <= 6 && kVector == 16) ? 2 : 1;
  if (pixels == kPixels) return run_channels<kPixels, kBlocks>(a, tile, begin, end);
  if constexpr (kPixels > 1) run_pixels<kPixels - 1>(a, tile, pixels, begin, end);
}

struct Position {
  int row = 0, col = 0;
};

// Fills the tile with `pixels` pixels from `at_pixel` on, and moves `at_pixel` past them.
inline void fill_tile(const ConvF32Args& a, int pixels, Position* at_pixel, Tile* tile) {
  for (int p = 0; p < pixels; ++p) {
    const ptrdiff_t row = at_pixel->row, col = at_pixel->col;
    tile->x[p] = at(a.x, row * a.x_row_stride + col * a.x_col_stride);
    tile->y[p] = at(a.y, row * a.y_row_stride + col * a.y_col_stride);
    tile->residual[p] =
        a.residual ? at(a.residual, row * a.residual_row_stride + col * a.residual_col_stride) : nullptr;
    if (++at_pixel->col == a.cols) {
      at_pixel->col = 0;
      ++at_pixel->row;
    }
  }
}

void run(const ConvF32Args& a) {
  const int total = a.rows * a.cols;
  if (total <= 0) return;
  const int tiles = (total + kMaxPixels - 1) / kMaxPixels;
  // The weights of one block are read by all tiles before the next block. One tile alone takes all blocks in
  // one go.
  const int step = tiles == 1 ? a.n_end - a.n_begin : kBlock;
  for (int o = a.n_begin; o < a.n_end; o += step) {
    const int end = o + step < a.n_end ? o + step : a.n_end;
    Position position;
    for (int t = 0; t < tiles; ++t) {
      const int pixels = total / tiles + (t < total % tiles ? 1 : 0);
      Tile tile;
      fill_tile(a, pixels, &position, &tile);
      run_pixels(a, tile, pixels, o, end);
    }
  }
}

}  // namespace
}  // namespace pyruntime
