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
// tiles are stored, but after the tile instructions of the next block have been issued: it fills the time
// these take.
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

struct Finished {  // a block whose accumulators lie in scratch and whose epilogue is still to do
  const int32_t* scratch;
  Pixels pixels[2];
  int tiles, panels, channel;
};

struct Grid {
  const ConvInt8Args* args;
  int tile_rows;      // R
  int tiles_per_row;  // all tiles, if rows are joined
  int tiles;
  int pitch;    // joined rows: pixels from one row to the next, halo included; otherwise not less than cols
  bool joined;  // rows
  int chunks;   // of 64 channels per tap
  ptrdiff_t w_stride;  // panel to panel
  bool general;        // the fast epilogue would not do
};

// Cuts the pixels into tiles.
void cut(const ConvInt8Args& args, Grid* grid) {
  const auto ceil_16 = [](int n) { return (n + 15) / 16; };
  grid->pitch = args.cols;
  int length = args.cols;
  if (args.x_col_stride > 0 && args.x_row_stride % args.x_col_stride == 0 &&
      args.x_row_stride >= args.cols * args.x_col_stride) {
    const int64_t pitch = args.x_row_stride / args.x_col_stride;
    const int64_t all = (args.rows - 1) * pitch + args.cols;
    if ((all + 15) / 16 < static_cast<int64_t>(args.rows) * ceil_16(args.cols)) {
      grid->pitch = static_cast<int>(pitch);
      length = static_cast<int>(all);
      grid->joined = true;
    }
  }
  grid->tiles_per_row = ceil_16(length);
  grid->tile_rows = (length + grid->tiles_per_row - 1) / grid->tiles_per_row;
  grid->tiles = grid->joined ? grid->tiles_per_row : args.rows * grid->tiles_per_row;
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

void find_places(const Grid& grid, const Pixels& first, int channel, __mmask32 channels, Places* places) {
  const ConvInt8Args& args = *grid.args;
  const Requantize& q = args.requantize;
  const ptrdiff_t y_stride = args.y_col_stride, residual_stride = q.residual_col_stride;
  const int cols = args.cols, pitch = grid.pitch, pixels = grid.tile_rows;
  uint8_t* y = static_cast<uint8_t*>(args.y) + first.row * args.y_row_stride + channel;
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

// acc: [panel][pixel][16]; panel 1 follows 16 * 16 values later.
template <bool kResidual>
void store_fast(const Grid& grid, const int32_t* acc, const Places& places, int channel) {
  const Requantize& q = grid.args->requantize;
  const RequantizeVectors constants = requantize_vectors(q);
  const __m512 multiplier[2] = {_mm512_loadu_ps(q.multiplier + channel),
                                _mm512_loadu_ps(q.multiplier + channel + 16)};
  const __m512 offset[2] = {_mm512_loadu_ps(q.offset + channel), _mm512_loadu_ps(q.offset + channel + 16)};
  const int pixels = grid.tile_rows;
  for (int m = 0; m < pixels; m += 2, acc += 32) {  // an odd count packs one unused row of the scratch
    __m512i v[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const int panel = i % 2, pixel = i / 2;
      const __m512 f = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(acc + 256 * panel + 16 * pixel)),
                                       multiplier[panel], offset[panel]);
      if (kResidual) {
        const uint8_t* residual = places.residual[m + pixel] + 16 * panel;
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

void store_tile(const Grid& grid, const int32_t* acc, const Pixels& first, int channel, int panels) {
  const Requantize& q = grid.args->requantize;
  const int left = grid.args->n_end - channel;
  Places places;
  if (!grid.general && panels == 2) {
    const unsigned channels = static_cast<unsigned>(left < 32 ? left : 32);
    find_places(grid, first, channel, static_cast<__mmask32>(_bzhi_u64(~0ull, channels)), &places);
    if (q.residual != nullptr)
      store_fast<true>(grid, acc, places, channel);
    else
      store_fast<false>(grid, acc, places, channel);
    return;
  }
  find_places(grid, first, 0, 1, &places);
  for (int m = 0; m < grid.tile_rows; ++m) {
    for (int j = 0; j < panels && places.mask[m] != 0; ++j) {
      requantize_store16(q, _mm512_load_si512(acc + 256 * j + 16 * m), channel + 16 * j, left - 16 * j,
                         q.residual == nullptr ? nullptr : places.residual[m], places.y[m]);
    }
  }
}

void finish(const Grid& grid, const Finished& block) {
  for (int i = 0; i < block.tiles; ++i) {
    store_tile(grid, block.scratch + 512 * i, block.pixels[i], block.channel, block.panels);
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
                                             int32_t* scratch, Finished* previous) {
  (void)amx;
  const ConvInt8Args& args = *grid.args;
  Finished block;
  block.scratch = scratch;
  block.pixels[0] = tile_pixels(grid, tile);
  block.pixels[1] = kTwoM ? tile_pixels(grid, tile + 1) : block.pixels[0];
  block.tiles = kTwoM ? 2 : 1;
  block.panels = kTwoN ? 2 : 1;
  block.channel = 16 * panel;
  const int32_t* init = args.requantize.acc_init + block.channel;
  const int8_t* w = static_cast<const int8_t*>(args.w) + panel * grid.w_stride;
  const ptrdiff_t s = args.x_col_stride;
  PYRUNTIME_AMX_LOAD(amx, 0, init, 0);
  if (kTwoN) PYRUNTIME_AMX_LOAD(amx, 1, init + 16, 0);
  if (kTwoM) PYRUNTIME_AMX_LOAD(amx, 2, init, 0);
  if (kTwoM && kTwoN) PYRUNTIME_AMX_LOAD(amx, 3, init + 16, 0);
  for (int tap = 0; tap < args.taps; ++tap) {
    const uint8_t* x0 = block.pixels[0].x + args.tap_offset[tap];
    const uint8_t* x1 = block.pixels[1].x + args.tap_offset[tap];
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
    }
  }
  finish(grid, *previous);
  PYRUNTIME_AMX_STORE(amx, 0, scratch, 64);
  if (kTwoN) PYRUNTIME_AMX_STORE(amx, 1, scratch + 256, 64);
  if (kTwoM) PYRUNTIME_AMX_STORE(amx, 2, scratch + 512, 64);
  if (kTwoM && kTwoN) PYRUNTIME_AMX_STORE(amx, 3, scratch + 768, 64);
  *previous = block;
}

// All pixels for the panels [panel_begin, panel_end). scratch: two blocks, used in turn. ahead: two panels to
// fetch meanwhile, or null.
template <typename Amx>
[[gnu::always_inline]] inline void run_panels(Amx& amx, const Grid& grid, int panel_begin, int panel_end,
                                              const int8_t* ahead, int32_t* scratch, Finished* previous) {
  const int tiles = grid.tiles, blocks = (tiles + 1) / 2;
  for (int tile = 0; tile < tiles; tile += 2) {
    const bool two_m = tile + 1 < tiles;
    Ahead lines{static_cast<const int8_t*>(grid.args->w), 0, 0};  // none
    if (ahead != nullptr) lines = {ahead, 16 * (tile / 2) / blocks * 64, 16 * (tile / 2 + 1) / blocks * 64};
    for (int panel = panel_begin; panel < panel_end; panel += 2) {
      const bool two_n = panel + 1 < panel_end;
      int32_t* free = previous->scratch == scratch ? scratch + kBlockValues : scratch;
      if (two_m && two_n) {
        run_block<true, true>(amx, grid, tile, panel, lines, free, previous);
      } else if (two_m) {
        run_block<true, false>(amx, grid, tile, panel, lines, free, previous);
      } else if (two_n) {
        run_block<false, true>(amx, grid, tile, panel, lines, free, previous);
      } else {
        run_block<false, false>(amx, grid, tile, panel, lines, free, previous);
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
  grid.general = conv_int8::needs_general_epilogue(args);
  grid.w_stride = conv_int8::panel16_stride(args.taps, args.k, 64);

  AmxConfig config;
  for (int tile = 0; tile < 8; ++tile) {
    config.row_bytes[tile] = 64;
    config.rows[tile] = static_cast<uint8_t>(tile < 6 ? grid.tile_rows : 16);  // B tiles always have 16 rows
  }
  PYRUNTIME_AMX_STATE(amx);
  PYRUNTIME_AMX_CONFIGURE(amx, config);
  alignas(64) int32_t scratch[2 * kBlockValues];
  Finished previous{};  // no tiles: nothing to finish yet

  const int panel_begin = args.n_begin / 16, panel_end = (args.n_end + 15) / 16, panels = (args.n + 15) / 16;
  if ((panel_end - panel_begin) * grid.w_stride <= kWeightsInL2 && grid.tiles * 16 >= kFewPixels) {
    run_panels(amx, grid, panel_begin, panel_end, nullptr, scratch, &previous);
  } else {
    for (int panel = panel_begin; panel < panel_end; panel += 2) {
      // Beyond the panels of this call as well: they are likely to be those of the next one.
      const int8_t* ahead =
          panel + 4 <= panels ? static_cast<const int8_t*>(args.w) + (panel + 2) * grid.w_stride : nullptr;
      run_panels(amx, grid, panel, panel_end - panel < 2 ? panel_end : panel + 2, ahead, scratch, &previous);
    }
  }
  finish(grid, previous);
  PYRUNTIME_AMX_RELEASE(amx);
}

}  // namespace
}  // namespace pyruntime
