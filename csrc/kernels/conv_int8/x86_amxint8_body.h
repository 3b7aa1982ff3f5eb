// conv_int8 on AMX-INT8, included by x86_amxint8.cc and, with emulated tiles, by
// x86_avx512vnni_amx_emulated.cc.
//
// A block is 2 pixel tiles (R <= 16 pixels of one row each) x 2 panels of 16 output channels. Tiles:
//
//              B6     B7        A: R pixels x 64 channels, straight from the activations, one tile row per
//        A4    C0     C1           pixel, x_col_stride apart
//        A5    C2     C3        B: 1 KB of packed weights of one panel
//                               C: s32, starts as acc_init (a load with stride 0)
//
// For every tap, for every 64 channels: 4 tile loads and 4 TDPBUSD of 16384 MACs. Channels beyond k meet zero
// weights. All pixel tiles have R pixels, so one configuration serves the call; the last tile of a row starts
// early enough to end with the row, and pixels it shares with its neighbour are computed twice with the same
// result. Where it takes fewer tiles, rows are joined: tiles run on over the halo between two rows, and
// results of these pixels are not stored (maps of 7x7 take 4 tiles instead of 7).
//
// Weights come from L3 or beyond in every run of a network. Where they outweigh the activations, all pixels
// meet two panels before the next two, which are fetched into L2 meanwhile, a few lines with every step.
//
// Tile products run asynchronously to vector instructions. So the epilogue of a block is not done when its
// tiles are stored, but between the tile instructions of the next block: it fills the time these take. A
// piece for every step of the products: of one long piece the CPU, which sees 512 instructions ahead, would
// not see the end.
#include <immintrin.h>

#include "kernels/conv_int8/conv_int8.h"
#include "kernels/conv_int8/epilogue_avx512.h"
#include "kernels/conv_int8/flatten.h"
#include "kernels/conv_int8/pack.h"
#include "kernels/requantize_avx512.h"
#include "kernels/x86_amx.h"

namespace pyruntime {
namespace {

constexpr ptrdiff_t kWeightsInL2 = 1024 * 1024;  // more, or
constexpr int kFewPixels = 400;  // fewer: read every weight once, the activations several times

constexpr int kMaxRows = 16;  // of a tile

struct Pixels {  // the first of a tile
  const uint8_t* x;
  int row, col;
};

constexpr int kBlockValues = 4 * 256;  // s32 of the four C tiles

struct Grid {
  const ConvInt8Args* args;
  int tile_rows;      // R
  int tiles_per_row;  // all tiles, if rows are joined
  int tiles;
  int pitch;    // joined rows: pixels from one row to the next, halo included; otherwise not less than cols
  bool joined;  // rows
  int chunks;   // of 64 channels per tap
  ptrdiff_t w_stride;  // panel to panel
  bool general;        // the fast epilogues would not do
};

// Pixels in a line, cut into tiles of equal height.
struct Cut {
  int tiles, rows;

  explicit Cut(int64_t pixels)
      : tiles(static_cast<int>((pixels + kMaxRows - 1) / kMaxRows)),
        rows(static_cast<int>((pixels + tiles - 1) / tiles)) {}

  // Of `lines` of them. Half of what a tile takes is taken to be its own, half that of its rows: products
  // stream rows through, loads and results go by rows, weights do not.
  int64_t cost(int64_t lines) const { return lines * tiles * (kMaxRows + rows); }
};

// Cuts the pixels into tiles: each row by itself, or all of them with what lies between.
void cut(const ConvInt8Args& args, Grid* grid) {
  grid->pitch = args.cols;
  Cut line(args.cols);
  if (args.x_col_stride > 0 && args.x_row_stride % args.x_col_stride == 0 &&
      args.x_row_stride >= args.cols * args.x_col_stride) {
    const int64_t pitch = args.x_row_stride / args.x_col_stride;
    const Cut all((args.rows - 1) * pitch + args.cols);
    if (all.cost(1) < line.cost(args.rows)) {
      grid->pitch = static_cast<int>(pitch);
      grid->joined = true;
      line = all;
    }
  }
  grid->tiles_per_row = line.tiles;
  grid->tile_rows = line.rows;
  grid->tiles = grid->joined ? line.tiles : args.rows * line.tiles;
}

// The first pixel of a tile; between two joined rows, x alone.
Pixels tile_pixels(const Grid& grid, int tile) {
  const ConvInt8Args& args = *grid.args;
  int row = 0, col = 0;
  if (grid.joined) {
    const int last = (args.rows - 1) * grid.pitch + args.cols - grid.tile_rows;
    const int first = tile * grid.tile_rows < last ? tile * grid.tile_rows : last;
    row = first / grid.pitch;
    col = first % grid.pitch;
  } else {
    const int last = args.cols - grid.tile_rows, first = tile % grid.tiles_per_row * grid.tile_rows;
    row = tile / grid.tiles_per_row;
    col = first < last ? first : last;
  }
  return {args.x + row * args.x_row_stride + col * args.x_col_stride, row, col};
}

// Where the results of a tile go. Pixels between two rows have an empty mask, and the addresses of their
// neighbours.
struct Places {
  uint8_t* y[kMaxRows + 1];
  const uint8_t* residual[kMaxRows + 1];
  __mmask32 mask[kMaxRows + 1];
};

// A block whose accumulators lie in scratch, and how far its epilogue is.
struct Finished {
  const int32_t* scratch;
  Pixels pixels[2];
  int tiles, panels, channel;
  int tile, pixel;  // next
  Places places;    // of that tile
};

void find_places(const Grid& grid, const Pixels& first, int channel, Places* places) {
  const ConvInt8Args& args = *grid.args;
  const Requantize& q = args.requantize;
  const ptrdiff_t y_stride = args.y_col_stride, residual_stride = q.residual_col_stride;
  const int cols = args.cols, pitch = grid.pitch, pixels = grid.tile_rows;
  const unsigned left = static_cast<unsigned>(args.n_end - channel);
  const __mmask32 channels = static_cast<__mmask32>(_bzhi_u64(~0ull, left < 32 ? left : 32));
  uint8_t* y =
      static_cast<uint8_t*>(args.y) + first.row * args.y_row_stride + channel * (q.f32_output ? 4 : 1);
  const uint8_t* residual =
      q.residual == nullptr ? y : q.residual + first.row * q.residual_row_stride + channel;
  int col = first.col;
  for (int m = 0; m < pixels; ++m) {
    const int at = col < cols ? col : cols - 1;
    places->y[m] = y + at * y_stride;
    places->residual[m] = residual + at * residual_stride;
    places->mask[m] = col < cols ? channels : 0;
    if (++col == pitch) {
      col = 0;
      y += args.y_row_stride;
      residual += q.residual_row_stride;
    }
  }
  // Pixels are packed two by two.
  places->y[pixels] = places->y[pixels - 1];
  places->residual[pixels] = places->residual[pixels - 1];
  places->mask[pixels] = 0;
}

// Channel constants of two panels.
struct Scaling {
  __m512 multiplier[2], offset[2];

  Scaling(const Requantize& q, int channel)
      : multiplier{_mm512_loadu_ps(q.multiplier + channel), _mm512_loadu_ps(q.multiplier + channel + 16)},
        offset{_mm512_loadu_ps(q.offset + channel), _mm512_loadu_ps(q.offset + channel + 16)} {}

  __m512 scaled(const int32_t* acc, int panel) const {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(acc)), multiplier[panel], offset[panel]);
  }
};

// Pixels [begin, end) of a tile, bytes. acc: [panel][pixel][16]; panel 1 follows 16 * 16 values later. An odd
// end packs one unused row of the scratch.
template <bool kResidual>
void store_u8(const Requantize& q, const int32_t* acc, const Places& places, int channel, int begin,
              int end) {
  const RequantizeVectors constants = requantize_vectors(q);
  const Scaling scaling(q, channel);
  for (int m = begin; m < end; m += 2) {
    __m512i v[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const int panel = i % 2, pixel = m + i / 2;
      const __m512 f = scaling.scaled(acc + 256 * panel + 16 * pixel, panel);
      if (kResidual) {
        const uint8_t* residual = places.residual[pixel] + 16 * panel;
        v[i] = requantize_residual_to_s32(constants, f,
                                          _mm_loadu_si128(reinterpret_cast<const __m128i*>(residual)));
      } else {
        v[i] = _mm512_cvtps_epi32(f);
      }
    }
    const __m512i bytes = requantize_pack(constants, v[0], v[1], v[2], v[3]);
    _mm256_mask_storeu_epi8(places.y[m], places.mask[m], _mm512_castsi512_si256(bytes));
    _mm256_mask_storeu_epi8(places.y[m + 1], places.mask[m + 1], _mm512_extracti64x4_epi64(bytes, 1));
  }
}

// The same for float outputs.
void store_f32(const Requantize& q, const int32_t* acc, const Places& places, int channel, int begin,
               int end) {
  const __m512 lo = _mm512_set1_ps(q.lo), hi = _mm512_set1_ps(q.hi);
  const Scaling scaling(q, channel);
  for (int m = begin; m < end; ++m) {
    for (int panel = 0; panel < 2; ++panel) {
      const __m512 f = requantize_clamp16(scaling.scaled(acc + 256 * panel + 16 * m, panel), lo, hi);
      _mm512_mask_storeu_ps(places.y[m] + 64 * panel, static_cast<__mmask16>(places.mask[m] >> 16 * panel),
                            f);
    }
  }
}

// Any output, any number of panels.
void store_general(const Requantize& q, const int32_t* acc, const Places& places, int channel, int channels,
                   int panels, int begin, int end) {
  const ptrdiff_t first = channel * (q.f32_output ? 4 : 1);  // bytes: requantize_store16 counts from 0
  for (int m = begin; m < end; ++m) {
    for (int j = 0; j < panels && places.mask[m] != 0; ++j) {
      requantize_store16(q, _mm512_load_si512(acc + 256 * j + 16 * m), channel + 16 * j, channels - 16 * j,
                         q.residual == nullptr ? nullptr : places.residual[m] - channel, places.y[m] - first);
    }
  }
}

// The epilogue of `pairs` more pairs of pixels.
[[gnu::noinline]] void finish(const Grid& grid, Finished* block, int pairs) {
  const Requantize& q = grid.args->requantize;
  const int channel = block->channel;
  while (pairs > 0 && block->tile < block->tiles) {
    if (block->pixel == 0) find_places(grid, block->pixels[block->tile], channel, &block->places);
    const int32_t* acc = block->scratch + 512 * block->tile;
    const int begin = block->pixel, wanted = begin + 2 * pairs;
    const int end = wanted < grid.tile_rows ? wanted : grid.tile_rows;
    if (grid.general || block->panels != 2) {
      store_general(q, acc, block->places, channel, grid.args->n_end - channel, block->panels, begin, end);
    } else if (q.f32_output) {
      store_f32(q, acc, block->places, channel, begin, end);
    } else if (q.residual != nullptr) {
      store_u8<true>(q, acc, block->places, channel, begin, end);
    } else {
      store_u8<false>(q, acc, block->places, channel, begin, end);
    }
    pairs -= (end - begin + 1) / 2;
    block->pixel = end;
    if (end == grid.tile_rows) {
      block->pixel = 0;
      ++block->tile;
    }
  }
}

// Lines of a 1 KB tile of weights to fetch for later, by each step of a block.
struct Ahead {
  const int8_t* w;  // two panels
  int begin, end;   // bytes of a tile
};

// Tiles `tile` and, if kTwoM, `tile + 1`; panels `panel` and, if kTwoN, `panel + 1`. Finishes `previous`.
template <bool kTwoM, bool kTwoN, typename Amx>
[[gnu::always_inline]] inline void run_block(Amx& amx, const Grid& grid, int tile, int panel, Ahead ahead,
                                             int32_t* scratch, Finished* block, Finished* previous) {
  (void)amx;
  const ConvInt8Args& args = *grid.args;
  const int pairs = previous->tiles * ((grid.tile_rows + 1) / 2), steps = args.taps * grid.chunks;
  const int pairs_a_step = (pairs + steps - 1) / steps;
  block->scratch = scratch;
  block->pixels[0] = tile_pixels(grid, tile);
  block->pixels[1] = kTwoM ? tile_pixels(grid, tile + 1) : block->pixels[0];
  block->tiles = kTwoM ? 2 : 1;
  block->panels = kTwoN ? 2 : 1;
  block->channel = 16 * panel;
  block->tile = block->pixel = 0;
  const int32_t* init = args.requantize.acc_init + block->channel;
  const int8_t* w = static_cast<const int8_t*>(args.w) + panel * grid.w_stride;
  const ptrdiff_t s = args.x_col_stride;
  PYRUNTIME_AMX_LOAD(amx, 0, init, 0);
  if (kTwoN) PYRUNTIME_AMX_LOAD(amx, 1, init + 16, 0);
  if (kTwoM) PYRUNTIME_AMX_LOAD(amx, 2, init, 0);
  if (kTwoM && kTwoN) PYRUNTIME_AMX_LOAD(amx, 3, init + 16, 0);
  for (int tap = 0; tap < args.taps; ++tap) {
    const uint8_t* x0 = block->pixels[0].x + args.tap_offset[tap];
    const uint8_t* x1 = block->pixels[1].x + args.tap_offset[tap];
    for (int chunk = 0; chunk < grid.chunks; ++chunk, x0 += 64, x1 += 64, w += 1024) {
      PYRUNTIME_AMX_LOAD(amx, 4, x0, s);
      PYRUNTIME_AMX_LOAD(amx, 6, w, 64);
      PYRUNTIME_AMX_DPBUSD(amx, 0, 4, 6);
      if (kTwoN) PYRUNTIME_AMX_LOAD(amx, 7, w + grid.w_stride, 64);
      if (kTwoN) PYRUNTIME_AMX_DPBUSD(amx, 1, 4, 7);
      if (kTwoM) PYRUNTIME_AMX_LOAD(amx, 5, x1, s);
      if (kTwoM) PYRUNTIME_AMX_DPBUSD(amx, 2, 5, 6);
      if (kTwoM && kTwoN) PYRUNTIME_AMX_DPBUSD(amx, 3, 5, 7);
      for (int line = ahead.begin; line < ahead.end; line += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(ahead.w + line), _MM_HINT_T1);
        _mm_prefetch(reinterpret_cast<const char*>(ahead.w + grid.w_stride + line), _MM_HINT_T1);
      }
      ahead.w += 1024;
      if (previous->tile < previous->tiles) finish(grid, previous, pairs_a_step);
    }
  }
  PYRUNTIME_AMX_STORE(amx, 0, scratch, 64);
  if (kTwoN) PYRUNTIME_AMX_STORE(amx, 1, scratch + 256, 64);
  if (kTwoM) PYRUNTIME_AMX_STORE(amx, 2, scratch + 512, 64);
  if (kTwoM && kTwoN) PYRUNTIME_AMX_STORE(amx, 3, scratch + 768, 64);
}

// Two blocks, used in turn: one is computed while the other is finished.
struct Blocks {
  alignas(64) int32_t scratch[2][kBlockValues];
  Finished block[2];
  int next;
};

// All pixels for the panels [panel_begin, panel_end). ahead: two panels to fetch meanwhile, or null.
template <typename Amx>
[[gnu::always_inline]] inline void run_panels(Amx& amx, const Grid& grid, int panel_begin, int panel_end,
                                              const int8_t* ahead, Blocks* blocks) {
  const int tiles = grid.tiles, pairs = (tiles + 1) / 2;
  for (int tile = 0; tile < tiles; tile += 2) {
    const bool two_m = tile + 1 < tiles;
    Ahead lines{static_cast<const int8_t*>(grid.args->w), 0, 0};  // none
    if (ahead != nullptr) lines = {ahead, 16 * (tile / 2) / pairs * 64, 16 * (tile / 2 + 1) / pairs * 64};
    for (int panel = panel_begin; panel < panel_end; panel += 2) {
      const bool two_n = panel + 1 < panel_end;
      int32_t* scratch = blocks->scratch[blocks->next];
      Finished* block = &blocks->block[blocks->next];
      Finished* previous = &blocks->block[1 - blocks->next];
      blocks->next = 1 - blocks->next;
      if (two_m && two_n) {
        run_block<true, true>(amx, grid, tile, panel, lines, scratch, block, previous);
      } else if (two_m) {
        run_block<true, false>(amx, grid, tile, panel, lines, scratch, block, previous);
      } else if (two_n) {
        run_block<false, true>(amx, grid, tile, panel, lines, scratch, block, previous);
      } else {
        run_block<false, false>(amx, grid, tile, panel, lines, scratch, block, previous);
      }
    }
  }
}

void run_amx(const ConvInt8Args& given) {
  if (given.rows <= 0 || given.cols <= 0) return;
  const ConvInt8Args args = conv_int8::flatten(given);
  Grid grid{};
  grid.args = &args;
  cut(args, &grid);
  grid.chunks = (args.k + 63) / 64;
  grid.general = !args.requantize.f32_output && conv_int8::needs_general_epilogue(args);
  grid.w_stride = conv_int8::panel16_stride(args.taps, args.k, 64);

  AmxConfig config;
  for (int tile = 0; tile < 8; ++tile) {
    config.row_bytes[tile] = 64;
    config.rows[tile] = static_cast<uint8_t>(tile < 6 ? grid.tile_rows : 16);  // B tiles always have 16 rows
  }
  PYRUNTIME_AMX_STATE(amx);
  PYRUNTIME_AMX_CONFIGURE(amx, config);
  Blocks blocks;
  blocks.next = 0;
  blocks.block[1].tile = blocks.block[1].tiles = 0;  // nothing to finish yet

  const int panel_begin = args.n_begin / 16, panel_end = (args.n_end + 15) / 16, panels = (args.n + 15) / 16;
  if ((panel_end - panel_begin) * grid.w_stride <= kWeightsInL2 && grid.tiles * 16 >= kFewPixels) {
    run_panels(amx, grid, panel_begin, panel_end, nullptr, &blocks);
  } else {
    for (int panel = panel_begin; panel < panel_end; panel += 2) {
      // Beyond the panels of this call as well: they are likely to be those of the next one.
      const int8_t* ahead =
          panel + 4 <= panels ? static_cast<const int8_t*>(args.w) + (panel + 2) * grid.w_stride : nullptr;
      run_panels(amx, grid, panel, panel_end - panel < 2 ? panel_end : panel + 2, ahead, &blocks);
    }
  }
  finish(grid, &blocks.block[1 - blocks.next], kBlockValues);
  PYRUNTIME_AMX_RELEASE(amx);
}

}  // namespace
}  // namespace pyruntime
