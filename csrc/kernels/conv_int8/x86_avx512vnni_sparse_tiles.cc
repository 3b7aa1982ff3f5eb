// 1x4-block weights for many pixels (sparse_tiles.h). The inputs of a tile are copied chunk by chunk, so that
// no load of the products crosses a cache line and all distances are known. A slot takes a load of its
// weights and of its 16 numbers, and for every pixel of the tile a load of a chunk, a VPERMT2D with the next
// one and a VPDPBUSD. Against sparse_twins.h a block takes up to three times as many instructions, lanes that
// stay empty included, but neither inputs nor results are transposed and no list ends for every other
// channel: 0.75 of its time for 64 input and 256 output channels.
//
// The sums of a group of 64 channels pass through scratch, then all 64 of a pixel are stored at once.
#include <immintrin.h>

#include "kernels/conv_int8/conv_int8.h"
#include "kernels/conv_int8/epilogue_avx512.h"
#include "kernels/conv_int8/sparse_pixel.h"
#include "kernels/conv_int8/sparse_tiles.h"
#include "kernels/requantize_avx512.h"

namespace pyruntime {
namespace {

using conv_int8::kTilesChunk;
using conv_int8::kTilesGroup;
using conv_int8::kTilesPanels;
using conv_int8::kTilesPixels;
using conv_int8::SparseTiles;
using conv_int8::SparseTilesGroup;
using conv_int8::TilesPiece;

constexpr int kLanes = 16;

struct Tile {
  uint8_t* inputs;  // [chunks + 1][pixels][64]
  int32_t* sums;    // [4 panels][pixels][16]
  Strip pixels;     // anywhere in the grid
};

// The slots [begin, end) for M pixels. All of them lie at distances that the compiler knows: a pixel takes
// three instructions.
template <int M>
[[gnu::noinline]] void accumulate(const SparseTiles& tiles, uint32_t begin, uint32_t end,
                                  const uint8_t* inputs, const int32_t* init, int32_t* sums) {
  const int8_t* w = tiles.weights + static_cast<size_t>(begin) * 64;
  const uint8_t* index = tiles.index + static_cast<size_t>(begin) * kLanes;
  const uint16_t *chunk = tiles.chunk + begin, *const last = tiles.chunk + end;
  __m512i acc[M];
#pragma GCC unroll 14
  for (int m = 0; m < M; ++m) acc[m] = _mm512_loadu_si512(init);
  for (; chunk < last; ++chunk, w += 64, index += kLanes) {
    const uint8_t* lo = inputs + static_cast<ptrdiff_t>(*chunk) * (M * kTilesChunk);
    const __m512i weights = _mm512_loadu_si512(w);
    const __m512i dword = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(index)));
#pragma GCC unroll 14
    for (int m = 0; m < M; ++m) {
      const __m512i window = _mm512_permutex2var_epi32(_mm512_load_si512(lo + m * kTilesChunk), dword,
                                                       _mm512_load_si512(lo + (M + m) * kTilesChunk));
      acc[m] = _mm512_dpbusd_epi32(acc[m], window, weights);
    }
  }
#pragma GCC unroll 14
  for (int m = 0; m < M; ++m) _mm512_store_si512(sums + m * kLanes, acc[m]);
}

// One pixel of a group; `q` has the constants in the order of its lanes.
template <bool kResidual, bool kPlain>
[[gnu::always_inline]] inline void store_u8(const Requantize& q, const RequantizeVectors& constants,
                                            const SparseTilesGroup& group, const int32_t* sums, int pixels,
                                            __mmask64 mask, const uint8_t* residual, uint8_t* y) {
  __m512i v[kTilesPanels], r = _mm512_setzero_si512();
  if (kResidual) r = kPlain ? _mm512_loadu_si512(residual) : _mm512_maskz_loadu_epi8(mask, residual);
#pragma GCC unroll 4
  for (int i = 0; i < kTilesPanels; ++i) {
    const __m512i acc = _mm512_load_si512(sums + i * pixels * kLanes);
    if (kResidual) {
      const __m512i dwords = _mm512_shuffle_epi8(r, _mm512_loadu_si512(group.residual[i]));
      v[i] = requantize_residual_to_s32(constants, requantize_scale(q, acc, kLanes * i), dwords);
    } else {
      v[i] = requantize_to_s32(q, acc, kLanes * i);
    }
  }
  const __m512i low = _mm512_packs_epi32(v[0], v[1]), high = _mm512_packs_epi32(v[2], v[3]);
  const __m512i place = _mm512_loadu_si512(group.place);
  if (kPlain) {
    _mm512_storeu_si512(y, _mm512_shuffle_epi8(_mm512_packus_epi16(low, high), place));
  } else {
    const __m512i bytes = requantize_words(constants, low, high);
    _mm512_mask_storeu_epi8(y, mask, _mm512_shuffle_epi8(bytes, place));
  }
}

// f32 output, or scaled values that could leave s32.
[[gnu::noinline]] void store_general(const Requantize& q, const SparseTilesGroup& group, const Tile& t,
                                     int pixels, int channel, int channels) {
  alignas(64) int32_t acc[kTilesGroup];
  for (int m = 0; m < pixels; ++m) {
    for (int c = 0; c < kTilesGroup; ++c) {
      const int place = group.place[c], panel = place / 4, lane = c / kLanes * 4 + place % 4;
      acc[c] = t.sums[(panel * pixels + m) * kLanes + lane];
    }
    for (int c = 0; c < channels; c += kLanes)
      requantize_store16(q, _mm512_load_si512(acc + c), channel + c, channels - c, t.pixels.residual[m],
                         t.pixels.y[m]);
  }
}

// The epilogue's constants in the order of the lanes, from channel n_begin on.
struct LaneConstants {
  int32_t* acc_init;
  float *multiplier, *offset;
};

void sort_constants(const ConvInt8Args& args, const SparseTiles& tiles, const LaneConstants& sorted) {
  const Requantize& q = args.requantize;
  int at = 0;
  for (int o = args.n_begin; o < args.n_end; o += kTilesGroup) {
    const uint8_t* order = tiles.group[o / kTilesGroup].order;
    for (int lane = 0; lane < kTilesGroup; ++lane, ++at) {
      const int sixteen = lane % kLanes / 4 * kLanes;
      const int channel = o + sixteen + order[sixteen + lane / kLanes * 4 + lane % 4];
      sorted.acc_init[at] = q.acc_init[channel];
      sorted.multiplier[at] = q.multiplier[channel];
      sorted.offset[at] = q.offset[channel];
    }
  }
}

// The channels of a group from `channel` on.
template <int M>
[[gnu::always_inline]] inline void store_group(const Requantize& q, const RequantizeVectors& constants,
                                               const SparseTilesGroup& group, const Tile& t, int channel,
                                               int channels, bool plain) {
  const __mmask64 mask = _bzhi_u64(~0ull, static_cast<unsigned>(channels));
  for (int m = 0; m < M; ++m) {
    const int32_t* sums = t.sums + m * kLanes;
    uint8_t* y = t.pixels.y[m] + channel;
    if (q.residual == nullptr) {
      plain ? store_u8<false, true>(q, constants, group, sums, M, mask, nullptr, y)
            : store_u8<false, false>(q, constants, group, sums, M, mask, nullptr, y);
    } else {
      const uint8_t* residual = t.pixels.residual[m] + channel;
      plain ? store_u8<true, true>(q, constants, group, sums, M, mask, residual, y)
            : store_u8<true, false>(q, constants, group, sums, M, mask, residual, y);
    }
  }
}

// Cuts the taps of a pixel into pieces of chunks; gives their number.
int cut_inputs(const ConvInt8Args& args, TilesPiece* piece) {
  int count = 0;
  const int bytes = (args.k + 3) / 4 * 4;
  for (int tap = 0, position = 0; tap < args.taps; ++tap) {
    for (int c = 0; c < bytes; ++count) {
      const int to = position % kTilesChunk, left = kTilesChunk - to;
      const int size = bytes - c < left ? bytes - c : left;
      piece[count] = {args.tap_offset[tap] + c, position / kTilesChunk, to,
                      _bzhi_u64(~0ull, static_cast<unsigned>(size))};
      c += size;
      position += size;
    }
  }
  return count;
}

template <int M>
void run_tile(const ConvInt8Args& args, const SparseTiles& tiles, const TilesPiece* piece, int pieces,
              const LaneConstants& sorted, const Tile& t, bool general) {
  for (int i = 0; i < pieces; ++i) {
    const TilesPiece p = piece[i];
    uint8_t* to = t.inputs + static_cast<ptrdiff_t>(p.chunk) * (M * kTilesChunk) + p.to;
    for (int m = 0; m < M; ++m)
      _mm512_mask_storeu_epi8(to + m * kTilesChunk, p.mask,
                              _mm512_maskz_loadu_epi8(p.mask, t.pixels.x[m] + p.from));
  }
  const RequantizeVectors constants = requantize_vectors(args.requantize);
  const bool whole_range = requantize_whole_range(args.requantize);
  Requantize q = args.requantize;
  for (int o = args.n_begin; o < args.n_end; o += kTilesGroup) {
    const int g = o / kTilesGroup, at = o - args.n_begin;
    for (int v = 0; v < kTilesPanels; ++v) {
      const uint32_t* first = tiles.first + g * kTilesPanels + v;
      accumulate<M>(tiles, first[0], first[1], t.inputs, sorted.acc_init + at + v * kLanes,
                    t.sums + v * M * kLanes);
    }
    const SparseTilesGroup& group = tiles.group[g];
    const int channels = args.n - o < kTilesGroup ? args.n - o : kTilesGroup;
    if (general) {
      store_general(args.requantize, group, t, M, o, channels);
      continue;
    }
    q.multiplier = sorted.multiplier + at;
    q.offset = sorted.offset + at;
    store_group<M>(q, constants, group, t, o, channels, whole_range && channels == kTilesGroup);
  }
}

using TileFunction = void (*)(const ConvInt8Args&, const SparseTiles&, const TilesPiece*, int,
                              const LaneConstants&, const Tile&, bool);
constexpr TileFunction kTiles[kTilesPixels] = {
    run_tile<1>, run_tile<2>, run_tile<3>,  run_tile<4>,  run_tile<5>,  run_tile<6>,  run_tile<7>,
    run_tile<8>, run_tile<9>, run_tile<10>, run_tile<11>, run_tile<12>, run_tile<13>, run_tile<14>};

}  // namespace

void run_conv_int8_u8s8s32_block4_14x64__avx512vnni(const ConvInt8Args& args) {
  if (args.rows <= 0 || args.cols <= 0) return;
  const SparseTiles sparse = conv_int8::sparse_tiles(args.w, args.n);
  const bool general = conv_int8::needs_general_epilogue(args);
  const int channels = (args.n_end - args.n_begin + kTilesGroup - 1) / kTilesGroup * kTilesGroup;
  Tile t;
  t.inputs = static_cast<uint8_t*>(args.scratch);
  const ptrdiff_t chunks = conv_int8::tiles_chunks(args.taps, args.k) + 1;
  t.sums = static_cast<int32_t*>(args.scratch) + chunks * (kTilesPixels * kTilesChunk / 4);
  LaneConstants sorted;
  sorted.acc_init = t.sums + kTilesPanels * kTilesPixels * kLanes;
  sorted.multiplier = reinterpret_cast<float*>(sorted.acc_init + channels);
  sorted.offset = sorted.multiplier + channels;
  auto* piece = reinterpret_cast<TilesPiece*>(sorted.offset + channels);
  const int pieces = cut_inputs(args, piece);
  sort_constants(args, sparse, sorted);
  const int64_t pixels = static_cast<int64_t>(args.rows) * args.cols;
  const int64_t tiles = (pixels + kTilesPixels - 1) / kTilesPixels;
  int row = 0, col = 0;
  for (int64_t i = 0; i < tiles; ++i) {
    const int count = static_cast<int>(pixels * (i + 1) / tiles - pixels * i / tiles);
    fill_strip(args, count, &row, &col, &t.pixels);
    kTiles[count - 1](args, sparse, piece, pieces, sorted, t, general);
  }
}

}  // namespace pyruntime
