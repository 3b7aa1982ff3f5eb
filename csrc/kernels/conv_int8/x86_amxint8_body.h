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
// result.
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

constexpr ptrdiff_t kWeightsInL2 =
    1024 * 1024;  // more: read every weight once, the activations several times

struct Pixels {  // of one tile, at channel 0
  const uint8_t* x;
  uint8_t* y;
  const uint8_t* residual;
};

constexpr int kBlockValues = 4 * 256;  // s32 of the four C tiles

struct Finished {  // a block whose accumulators lie in scratch and whose epilogue is still to do
  const int32_t* scratch;
  Pixels pixels[2];
  int tiles, panels, channel;
};

struct Grid {
  const ConvInt8Args* args;
  int tile_rows;  // R
  int tiles_per_row;
  int chunks;          // of 64 channels per tap
  ptrdiff_t w_stride;  // panel to panel
  bool general;        // the fast epilogue would not do
};

Pixels tile_pixels(const Grid& grid, int tile) {
  const ConvInt8Args& args = *grid.args;
  const Requantize& q = args.requantize;
  const int row = tile / grid.tiles_per_row, index = tile % grid.tiles_per_row;
  const int last = args.cols - grid.tile_rows;
  const int col = index * grid.tile_rows < last ? index * grid.tile_rows : last;
  Pixels p;
  p.x = args.x + row * args.x_row_stride + col * args.x_col_stride;
  p.y = static_cast<uint8_t*>(args.y) + row * args.y_row_stride + col * args.y_col_stride;
  p.residual = q.residual == nullptr ? nullptr
                                     : q.residual + row * q.residual_row_stride + col * q.residual_col_stride;
  return p;
}

// acc: [panel][pixel][16]; panel 1 follows 16 * 16 values later.
void store_tile(const Grid& grid, const int32_t* acc, const Pixels& p, int channel, int panels) {
  const ConvInt8Args& args = *grid.args;
  const int pixels = grid.tile_rows;
  const Requantize& q = args.requantize;
  const ptrdiff_t y_stride = args.y_col_stride;
  const int left = args.n_end - channel;
  if (grid.general || panels == 1) {
    for (int m = 0; m < pixels; ++m) {
      const uint8_t* residual = p.residual == nullptr ? nullptr : p.residual + m * q.residual_col_stride;
      for (int j = 0; j < panels; ++j) {
        requantize_store16(q, _mm512_load_si512(acc + 256 * j + 16 * m), channel + 16 * j, left - 16 * j,
                           residual, p.y + m * y_stride);
      }
    }
    return;
  }
  const RequantizeVectors constants = requantize_vectors(q);
  const __mmask32 mask =
      static_cast<__mmask32>(_bzhi_u64(~0ull, static_cast<unsigned>(left < 32 ? left : 32)));
  for (int m = 0; m < pixels; m += 2) {
    const int32_t* pixel = acc + 16 * m;  // an odd count packs one unused row of the scratch
    const int next = m + 1 < pixels ? 1 : 0;
    __m512i v[4];
    for (int i = 0; i < 4; ++i) {
      const __m512i value = _mm512_load_si512(pixel + 256 * (i % 2) + 16 * (i / 2));
      const int first = channel + 16 * (i % 2);
      if (p.residual != nullptr) {
        const uint8_t* residual = p.residual + (m + i / 2 * next) * q.residual_col_stride + first;
        const __m128i bytes = _mm_maskz_loadu_epi8(static_cast<__mmask16>(mask >> (16 * (i % 2))), residual);
        v[i] = requantize_residual_to_s32(q, constants, value, first, bytes);
      } else {
        v[i] = requantize_to_s32(q, value, first);
      }
    }
    const __m512i bytes = requantize_pack(constants, v[0], v[1], v[2], v[3]);
    uint8_t* y = p.y + m * y_stride + channel;
    _mm256_mask_storeu_epi8(y, mask, _mm512_castsi512_si256(bytes));
    if (m + 1 < pixels) _mm256_mask_storeu_epi8(y + y_stride, mask, _mm512_extracti64x4_epi64(bytes, 1));
  }
}

void finish(const Grid& grid, const Finished& block) {
  for (int i = 0; i < block.tiles; ++i) {
    store_tile(grid, block.scratch + 512 * i, block.pixels[i], block.channel, block.panels);
  }
}

// Tiles `tile` and, if kTwoM, `tile + 1`; panels `panel` and, if kTwoN, `panel + 1`. Finishes `previous`.
template <bool kTwoM, bool kTwoN, typename Amx>
[[gnu::always_inline]] inline void run_block(Amx& amx, const Grid& grid, int tile, int panel,
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
    }
  }
  finish(grid, *previous);
  PYRUNTIME_AMX_STORE(amx, 0, scratch, 64);
  if (kTwoN) PYRUNTIME_AMX_STORE(amx, 1, scratch + 256, 64);
  if (kTwoM) PYRUNTIME_AMX_STORE(amx, 2, scratch + 512, 64);
  if (kTwoM && kTwoN) PYRUNTIME_AMX_STORE(amx, 3, scratch + 768, 64);
  *previous = block;
}

// All pixels for the panels [panel_begin, panel_end). scratch: two blocks, used in turn.
template <typename Amx>
[[gnu::always_inline]] inline void run_panels(Amx& amx, const Grid& grid, int panel_begin, int panel_end,
                                              int32_t* scratch, Finished* previous) {
  const int tiles = grid.args->rows * grid.tiles_per_row;
  for (int tile = 0; tile < tiles; tile += 2) {
    const bool two_m = tile + 1 < tiles;
    for (int panel = panel_begin; panel < panel_end; panel += 2) {
      const bool two_n = panel + 1 < panel_end;
      int32_t* free = previous->scratch == scratch ? scratch + kBlockValues : scratch;
      if (two_m && two_n) {
        run_block<true, true>(amx, grid, tile, panel, free, previous);
      } else if (two_m) {
        run_block<true, false>(amx, grid, tile, panel, free, previous);
      } else if (two_n) {
        run_block<false, true>(amx, grid, tile, panel, free, previous);
      } else {
        run_block<false, false>(amx, grid, tile, panel, free, previous);
      }
    }
  }
}

void run_amx(const ConvInt8Args& given) {
  if (given.rows <= 0 || given.cols <= 0) return;
  const ConvInt8Args args = conv_int8::flatten(given);
  Grid grid;
  grid.args = &args;
  grid.tiles_per_row = (args.cols + 15) / 16;
  grid.tile_rows = (args.cols + grid.tiles_per_row - 1) / grid.tiles_per_row;
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

  const int panel_begin = args.n_begin / 16, panel_end = (args.n_end + 15) / 16;
  const bool weights_fit = (panel_end - panel_begin) * grid.w_stride <= kWeightsInL2;
  const int step = weights_fit ? panel_end - panel_begin : 2;
  for (int panel = panel_begin; panel < panel_end; panel += step) {
    run_panels(amx, grid, panel, panel_end - panel < step ? panel_end : panel + step, scratch, &previous);
  }
  finish(grid, previous);
  PYRUNTIME_AMX_RELEASE(amx);
}

}  // namespace
}  // namespace pyruntime
