// Register-blocked float convolution, once for AVX2 and AVX-512 (x86_vector_f32.h).
//
// A tile is M pixels x NV panels of one vector of output channels; its M * NV accumulators stay in registers
// while taps and channels are walked:
//
//   for every tap, for every input channel:
//     NV loads of weights, M broadcasts of an input, M * NV fmas
//
// The pixels of the whole rows x cols grid are numbered through, so a tile may cross rows; the tiles of a
// call differ by one pixel at most. As many tiles as suit the caches are a chunk: all of them meet a group of
// NV panels before the next.
#pragma once

#include <utility>

#include "kernels/conv_f32/conv_f32.h"
#include "kernels/conv_f32/pack.h"
#include "kernels/conv_f32/x86_vector_f32.h"

namespace pyruntime {
namespace {

constexpr bool kWide = kVector == 16;  // 32 registers, else 16
constexpr int kMaxPixels = kWide ? 14 : 6;
constexpr int kMaxPanels = 8;
constexpr int kMaxTiles = 16;  // of a chunk
constexpr int kMaxParts = 32;
constexpr int kMaxSums = kWide ? 28 : 12;  // vectors
constexpr ptrdiff_t kInputsInL2 = 384 * 1024, kPartOfWeights = 128 * 1024;

// Panels of a tile of `pixels` pixels: accumulators, weights and an input fit the registers.
constexpr int panels_for(int pixels) {
  if (kWide) return pixels <= 2 ? 8 : pixels <= 6 ? 4 : pixels <= 9 ? 3 : 2;
  return pixels == 1 ? 8 : pixels == 2 ? 4 : pixels <= 4 ? 3 : 2;
}

struct Tile {
  int pixels;
  const float* x[kMaxPixels];
  float* y[kMaxPixels];
  const float* residual[kMaxPixels];
};

// A part of the sums: input channels [k_begin, k_end) of the taps [tap_begin, tap_end). Sums that are not
// complete wait in memory, which changes no bit of them.
struct Part {
  int tap_begin, tap_end, k_begin, k_end;
  bool first, last;
};

// A group of panels, the first of them with the output channel `channel`, and a part of their sums.
struct Panels {
  Part part;
  const float* w;    // of the part
  ptrdiff_t stride;  // floats from one panel to the next
  int channel, end;  // no channel from `end` on is written
  Vector* sums;      // of the tile
  const char* next;  // weights fetched into L2 meanwhile
};

// Works from memory, so that it exists once and not per tile shape: some channels of the tile lie past `end`.
[[gnu::noinline]] void store_masked(const ConvF32Args& a, const Tile& tile, const Panels& p, int panels,
                                    const Vector* acc) {
  const Vector lo = broadcast(a.lo), hi = broadcast(a.hi);
  for (int m = 0; m < tile.pixels; ++m) {
    for (int j = 0; j < panels; ++j) {
      const int o = p.channel + j * kVector, left = p.end - o;
      if (left <= 0) break;
      const Mask mask = first_lanes(left < kVector ? left : kVector);
      Vector v = acc[m * panels + j];
      if (a.residual != nullptr) v = add(v, load_masked(tile.residual[m] + o, mask));
      store_masked(tile.y[m] + o, mask, clamp(v, lo, hi));
    }
  }
}

template <int M, int NV, bool RESIDUAL>
[[gnu::always_inline]] inline void store_whole(const ConvF32Args& a, const Tile& tile, int channel,
                                               const Vector (&acc)[M * NV]) {
  const Vector lo = broadcast(a.lo), hi = broadcast(a.hi);
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
    float* y = tile.y[m] + channel;
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) {
      Vector v = acc[m * NV + j];
      if (RESIDUAL) v = add(v, load(tile.residual[m] + channel + j * kVector));
      store(y + j * kVector, clamp(v, lo, hi));
    }
  }
}

// Products of one input channel, `offset` bytes behind the pointers x.
template <int M, int NV>
[[gnu::always_inline]] inline void add_products(const float* const (&x)[M], ptrdiff_t offset, const float* w,
                                                ptrdiff_t stride, Vector (&acc)[M * NV]) {
  Vector weights[NV];
#pragma GCC unroll 8
  for (int j = 0; j < NV; ++j) weights[j] = load(w + j * stride);
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
    const Vector value = broadcast(*at(x[m], offset));
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) acc[m * NV + j] = fma(value, weights[j], acc[m * NV + j]);
  }
}

// AHEAD: weights that come next are fetched meanwhile. A function of its own, since without any the
// instruction costs 2 to 4 % of the time.
template <int M, int NV, bool AHEAD>
void run_tile(const ConvF32Args& a, const Tile& tile, const Panels& panels) {
  const Part part = panels.part;
  Vector acc[M * NV];
  if (part.first) {
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) {
      const Vector bias = load(a.bias + panels.channel + j * kVector);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) acc[m * NV + j] = bias;
    }
  } else {
#pragma GCC unroll 28
    for (int i = 0; i < M * NV; ++i) acc[i] = panels.sums[i];
  }
  const float* x[M];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) x[m] = tile.x[m];
  const float* w = panels.w;
  const ptrdiff_t stride = panels.stride;
  [[maybe_unused]] const char* next = panels.next;
  for (int t = part.tap_begin; t < part.tap_end; ++t) {
    ptrdiff_t offset = a.tap_offset[t] + static_cast<ptrdiff_t>(part.k_begin) * 4;
    const ptrdiff_t stop = a.tap_offset[t] + static_cast<ptrdiff_t>(part.k_end) * 4;
    for (; offset + 4 < stop; offset += 8, w += 2 * kVector) {
      add_products<M, NV>(x, offset, w, stride, acc);
      if (AHEAD) {
        prefetch_l2(next);
        next += 64;
      }
      add_products<M, NV>(x, offset + 4, w + kVector, stride, acc);
    }
    if (offset < stop) {
      add_products<M, NV>(x, offset, w, stride, acc);
      w += kVector;
    }
  }
  const bool whole = panels.end - panels.channel >= NV * kVector;
  if (!part.last || !whole) {
#pragma GCC unroll 28
    for (int i = 0; i < M * NV; ++i) panels.sums[i] = acc[i];
    if (part.last) store_masked(a, tile, panels, NV, panels.sums);
  } else if (a.residual != nullptr) {
    store_whole<M, NV, true>(a, tile, panels.channel, acc);
  } else {
    store_whole<M, NV, false>(a, tile, panels.channel, acc);
  }
}

using TileFunction = void (*)(const ConvF32Args&, const Tile&, const Panels&);

// Whole groups of panels alone fetch what comes next.
template <int M, int NV, bool AHEAD>
constexpr TileFunction tile_function() {
  if constexpr (NV == panels_for(M) || (NV < panels_for(M) && !AHEAD)) return run_tile<M, NV, AHEAD>;
  return nullptr;
}

struct TileRow {
  TileFunction of_panels[kMaxPanels];  // [panels - 1]
};

template <int M, bool AHEAD, int... J>
constexpr TileRow tile_row(std::integer_sequence<int, J...>) {
  return {{tile_function<M, J + 1, AHEAD>()...}};
}

struct TileTable {
  TileRow of_pixels[kMaxPixels];  // [pixels - 1]
};

template <bool AHEAD, int... I>
constexpr TileTable tile_table(std::integer_sequence<int, I...>) {
  return {{tile_row<I + 1, AHEAD>(std::make_integer_sequence<int, kMaxPanels>())...}};
}

constexpr TileTable kTiles = tile_table<false>(std::make_integer_sequence<int, kMaxPixels>());
constexpr TileTable kTilesAhead = tile_table<true>(std::make_integer_sequence<int, kMaxPixels>());

struct Position {
  int row = 0, col = 0;
};

// Bytes from the first pixel of a tile to the others of its row.
struct Steps {
  ptrdiff_t x[kMaxPixels], y[kMaxPixels], residual[kMaxPixels];
};

Steps steps_of(const ConvF32Args& a) {
  Steps steps;
  for (int m = 0; m < kMaxPixels; ++m) {
    steps.x[m] = m * a.x_col_stride;
    steps.y[m] = m * a.y_col_stride;
    steps.residual[m] = a.residual == nullptr ? 0 : m * a.residual_col_stride;
  }
  return steps;
}

// Fills the tile with `pixels` pixels from `position` on, and moves that past them. Every row fills the tile
// to its end, in a loop without conditions; the next row, if the tile has one, overwrites the rest.
inline void fill_tile(const ConvF32Args& a, const Steps& steps, int pixels, Position* position, Tile* tile) {
  tile->pixels = pixels;
  ptrdiff_t row = position->row, col = position->col;
  for (int begin = 0; begin < pixels;) {
    const float* x = at(a.x, row * a.x_row_stride + col * a.x_col_stride);
    float* y = at(a.y, row * a.y_row_stride + col * a.y_col_stride);
    for (int m = begin; m < kMaxPixels; ++m) {
      tile->x[m] = at(x, steps.x[m - begin]);
      tile->y[m] = at(y, steps.y[m - begin]);
    }
    if (a.residual != nullptr) {
      const float* residual = at(a.residual, row * a.residual_row_stride + col * a.residual_col_stride);
      for (int m = begin; m < kMaxPixels; ++m) tile->residual[m] = at(residual, steps.residual[m - begin]);
    }
    const int left = a.cols - static_cast<int>(col), count = pixels - begin < left ? pixels - begin : left;
    begin += count;
    col += count;
    if (col == a.cols) {
      col = 0;
      ++row;
    }
  }
  *position = {static_cast<int>(row), static_cast<int>(col)};
}

// The largest tile for `total` pixels and `panels` panels, by the instructions that all tiles take: of every
// input channel a load for every panel, which counts twice as L2 is slow, a broadcast for every pixel, and
// their products. Lines of pixels a multiple of 4096 bytes apart share one set of L1, which has 8 lines.
int pixels_for(const ConvF32Args& a, int total, int panels) {
  if (!kWide) return kMaxPixels;
  const int64_t depth = static_cast<int64_t>(a.taps) * a.k;
  constexpr int64_t kTileInstructions = 200;
  constexpr int kPixels[] = {6, 9, kMaxPixels};
  int best = kPixels[0];
  int64_t least = 0;
  for (const int most : kPixels) {
    if (most > 8 && a.x_col_stride % 4096 == 0) break;
    const int tiles = (total + most - 1) / most, small = total / tiles, larger = total % tiles;
    const int step = panels_for(larger > 0 ? small + 1 : small), rest = panels % step;
    const auto instructions = [&](int m, int nv) {
      return depth * (m * nv + m + 2 * nv + 2) + kTileInstructions;
    };
    int64_t sum = 0;
    for (int i = 0; i < 2; ++i) {
      const int count = i == 0 ? tiles - larger : larger;
      sum += count *
             (panels / step * instructions(small + i, step) + (rest > 0 ? instructions(small + i, rest) : 0));
    }
    if (least != 0 && sum >= least) continue;
    least = sum;
    best = most;
  }
  return best;
}

struct Parts {
  int count;
  Part part[kMaxParts];
};

// The parts of the sums of a group of `panels`: one, or with `fetch` as many as leave room in L2 for the
// weights of the next.
Parts parts_of(const ConvF32Args& a, int panels, bool fetch) {
  const ptrdiff_t bytes = static_cast<ptrdiff_t>(a.taps) * a.k * panels * kVector * 4;
  const ptrdiff_t wanted = fetch ? (bytes + kPartOfWeights - 1) / kPartOfWeights : 1;
  const bool by_taps = a.taps > 1;
  const int whole = by_taps ? a.taps : (a.k + 63) / 64, most = whole < kMaxParts ? whole : kMaxParts;
  Parts parts;
  parts.count = wanted < most ? static_cast<int>(wanted) : most;
  const auto cut = [&](int n, int i) { return static_cast<int>(static_cast<int64_t>(n) * i / parts.count); };
  for (int i = 0; i < parts.count; ++i) {
    Part& part = parts.part[i];
    part = {0, a.taps, 0, a.k, i == 0, i + 1 == parts.count};
    (by_taps ? part.tap_begin : part.k_begin) = cut(by_taps ? a.taps : a.k, i);
    (by_taps ? part.tap_end : part.k_end) = cut(by_taps ? a.taps : a.k, i + 1);
  }
  return parts;
}

const float* weights_of(const ConvF32Args& a, ptrdiff_t stride, int panel, const Part& part) {
  return static_cast<const float*>(a.w) + panel * stride +
         (static_cast<ptrdiff_t>(part.tap_begin) * a.k + part.k_begin) * kVector;
}

// All panels for the tiles of a chunk. With `fetch` their weights do not stay in L2: they are read once, part
// by part, and those that come next are fetched meanwhile.
void run_chunk(const ConvF32Args& a, const Tile* tiles, int count, const Parts& parts, bool fetch) {
  const int panel_begin = a.n_begin / kVector, panel_end = (a.n_end + kVector - 1) / kVector;
  const int panels_of_layer = (a.n + kVector - 1) / kVector;
  const int step = panels_for(tiles[0].pixels);  // the largest tile comes first
  Vector sums[kMaxTiles][kMaxSums];
  Panels p{};
  p.stride = static_cast<ptrdiff_t>(a.taps) * a.k * kVector;
  p.end = a.n_end;
  for (int begin = panel_begin; begin < panel_end; begin += step) {
    const int panels = panel_end - begin < step ? panel_end - begin : step;
    p.channel = begin * kVector;
    for (int i = 0; i < parts.count; ++i) {
      p.part = parts.part[i];
      p.w = weights_of(a, p.stride, begin, p.part);
      const int next_panel = p.part.last ? begin + step : begin;
      const Part& next = parts.part[p.part.last ? 0 : i + 1];
      const ptrdiff_t next_floats =
          static_cast<ptrdiff_t>(next.tap_end - next.tap_begin) * (next.k_end - next.k_begin) * kVector;
      const bool ahead = fetch && panels == step && next_panel + step <= panels_of_layer;
      for (int t = 0; t < count; ++t) {
        const Tile& tile = tiles[t];
        p.sums = sums[t];
        if (ahead && panels == panels_for(tile.pixels)) {
          // Every tile fetches its share of the panels, one after the other.
          p.next =
              reinterpret_cast<const char*>(weights_of(a, p.stride, next_panel + t * step / count, next) +
                                            next_floats * (t * step % count) / count);
          kTilesAhead.of_pixels[tile.pixels - 1].of_panels[panels - 1](a, tile, p);
        } else {
          kTiles.of_pixels[tile.pixels - 1].of_panels[panels - 1](a, tile, p);
        }
      }
    }
  }
}

void run(const ConvF32Args& a) {
  const int total = a.rows * a.cols;
  if (total <= 0) return;
  const int most = pixels_for(a, total, (a.n_end + kVector - 1) / kVector - a.n_begin / kVector);
  const int tiles = (total + most - 1) / most, small = total / tiles, larger = total % tiles;
  const ptrdiff_t weight_bytes = static_cast<ptrdiff_t>(a.n_end - a.n_begin) * a.taps * a.k * 4;
  const ptrdiff_t input_bytes = static_cast<ptrdiff_t>(most) * a.k * 4;
  const bool fetch = static_cast<size_t>(weight_bytes) > kConvF32WeightsInL2;
  ptrdiff_t chunk = fetch ? kInputsInL2 / input_bytes : 1;
  chunk = chunk < 1 ? 1 : chunk > kMaxTiles ? kMaxTiles : chunk;
  const Parts parts = parts_of(a, panels_for(larger > 0 ? small + 1 : small), fetch);
  const Steps steps = steps_of(a);
  Tile buffer[kMaxTiles];
  Position position;
  for (int t = 0; t < tiles;) {
    int count = 0;
    for (; count < chunk && t < tiles; ++count, ++t)
      fill_tile(a, steps, small + (t < larger ? 1 : 0), &position, &buffer[count]);
    run_chunk(a, buffer, count, parts, fetch);
  }
}

}  // namespace
}  // namespace pyruntime
