// The tile instructions of AMX-INT8, in one place. Kernels use the macros below and nothing else of AMX:
//
//   PYRUNTIME_AMX_STATE(s)                      declares what the macros work on
//   PYRUNTIME_AMX_CONFIGURE(s, config)          LDTILECFG; a kernel ends with PYRUNTIME_AMX_RELEASE(s)
//   PYRUNTIME_AMX_LOAD(s, tile, base, stride)   rows of 64 bytes at base + row * stride (0 repeats a row)
//   PYRUNTIME_AMX_STORE(s, tile, base, stride)
//   PYRUNTIME_AMX_DPBUSD(s, c, a, b)            c[m][n] += sum of a[m][k] * b[k / 4][n][k % 4], a u8, b s8
//   PYRUNTIME_AMX_DPBUUD(s, c, a, b)            the same, b u8
//   PYRUNTIME_AMX_ZERO(s, tile)
//
// Tile numbers are literal digits: GCC pastes them into assembly text. GCC tells the optimizer neither that
// LDTILECFG reads the whole configuration nor that TILELOADD reads memory: CONFIGURE has a barrier that lets
// the address escape, and a kernel that loads a tile from memory it wrote itself must put one before the
// load.
//
// With PYRUNTIME_EMULATE_AMX defined the macros are plain C++ that does the same, so that the algorithm of a
// kernel can be tested on a CPU without AMX. Emulated rows are for tests only.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace pyruntime {

struct alignas(64) AmxConfig {  // palette 1: eight tiles of at most 16 rows of 64 bytes
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

}  // namespace pyruntime

#ifndef PYRUNTIME_EMULATE_AMX

namespace pyruntime {
namespace {
struct HardwareAmx {};  // the state is in the CPU
}  // namespace
}  // namespace pyruntime

#define PYRUNTIME_AMX_STATE(s) HardwareAmx s
#define PYRUNTIME_AMX_CONFIGURE(s, config)        \
  do {                                            \
    asm volatile("" ::"r"(&(config)) : "memory"); \
    _tile_loadconfig(&(config));                  \
  } while (0)
#define PYRUNTIME_AMX_RELEASE(s) ((void)(s), _tile_release())
#define PYRUNTIME_AMX_LOAD(s, tile, base, stride) _tile_loadd(tile, base, stride)
#define PYRUNTIME_AMX_STORE(s, tile, base, stride) _tile_stored(tile, base, stride)
#define PYRUNTIME_AMX_DPBUSD(s, c, a, b) _tile_dpbusd(c, a, b)
#define PYRUNTIME_AMX_DPBUUD(s, c, a, b) _tile_dpbuud(c, a, b)
#define PYRUNTIME_AMX_ZERO(s, tile) _tile_zero(tile)

#else

namespace pyruntime {
namespace {

struct EmulatedAmx {
  uint8_t tiles[8][16][64];
  AmxConfig config;

  void configure(const AmxConfig& given) {
    config = given;
    __builtin_memset(tiles, 0, sizeof(tiles));
  }
  void load(int tile, const void* base, ptrdiff_t stride) {
    __builtin_memset(tiles[tile], 0, sizeof(tiles[tile]));
    for (int r = 0; r < config.rows[tile]; ++r) {
      __builtin_memcpy(tiles[tile][r], static_cast<const uint8_t*>(base) + r * stride,
                       config.row_bytes[tile]);
    }
  }
  void store(int tile, void* base, ptrdiff_t stride) const {
    for (int r = 0; r < config.rows[tile]; ++r) {
      __builtin_memcpy(static_cast<uint8_t*>(base) + r * stride, tiles[tile][r], config.row_bytes[tile]);
    }
  }
  void zero(int tile) { __builtin_memset(tiles[tile], 0, sizeof(tiles[tile])); }
  void dpbusd(int c, int a, int b) { products<int8_t>(c, a, b); }
  void dpbuud(int c, int a, int b) { products<uint8_t>(c, a, b); }

  template <typename B>  // of the bytes of b
  void products(int c, int a, int b) {
    for (int m = 0; m < config.rows[c]; ++m) {
      for (int n = 0; n < config.row_bytes[c] / 4; ++n) {
        int32_t sum;
        __builtin_memcpy(&sum, &tiles[c][m][4 * n], 4);
        for (int k = 0; k < config.row_bytes[a]; ++k) {
          sum += tiles[a][m][k] * static_cast<B>(tiles[b][k / 4][4 * n + k % 4]);
        }
        __builtin_memcpy(&tiles[c][m][4 * n], &sum, 4);
      }
    }
  }
};

}  // namespace
}  // namespace pyruntime

#define PYRUNTIME_AMX_STATE(s) EmulatedAmx s
#define PYRUNTIME_AMX_CONFIGURE(s, given) (s).configure(given)
#define PYRUNTIME_AMX_RELEASE(s) (void)(s)
#define PYRUNTIME_AMX_LOAD(s, tile, base, stride) (s).load(tile, base, stride)
#define PYRUNTIME_AMX_STORE(s, tile, base, stride) (s).store(tile, base, stride)
#define PYRUNTIME_AMX_DPBUSD(s, c, a, b) (s).dpbusd(c, a, b)
#define PYRUNTIME_AMX_DPBUUD(s, c, a, b) (s).dpbuud(c, a, b)
#define PYRUNTIME_AMX_ZERO(s, tile) (s).zero(tile)

#endif
