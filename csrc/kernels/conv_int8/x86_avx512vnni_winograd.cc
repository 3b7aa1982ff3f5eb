// conv_int8 of 3x3 windows by F(4x4, 3x3) on AVX-512-VNNI (winograd.h). For a block of tiles:
//
//   inputs:   32 channels of a tile at a time, 36 loads, 12 transforms of 17 instructions, 36 stores
//   products: for 32 output channels and each position, up to 14 tiles in registers; for two input channels 2
//             loads of s16 weights, then for each tile a broadcast of two s16 inputs and 2 VPDPWSSD (32 MACs
//             each, half of what VPDPBUSD takes, for a quarter of the products)
//   outputs:  16 channels of a tile at a time, 36 loads, 10 transforms of 12 instructions, then 16 times a
//             product, a shift and the epilogue
#include <immintrin.h>

#include "kernels/conv_int8/conv_int8.h"
#include "kernels/conv_int8/epilogue_avx512.h"
#include "kernels/conv_int8/winograd.h"
#include "kernels/requantize_avx512.h"

namespace pyruntime {
namespace {

using conv_int8::kWinogradInputs;
using conv_int8::kWinogradPositions;
using conv_int8::kWinogradTile;

constexpr int kRegisterTiles = 14;
constexpr int kPanels = 2;                  // of 16 output channels, whose products are made together
constexpr ptrdiff_t kPrefetchBytes = 1024;  // ahead of the weights being read, into the first-level cache
constexpr int kPrefetchPositions = 2;       // and into the second

// Everything a block of tiles needs; strides in bytes.
struct Block {
  const ConvInt8Args* args;
  int tile_cols;             // of the whole grid
  int first, tiles;          // tile t of the block is tile first + t of the grid
  ptrdiff_t tile, position;  // strides of the transformed inputs
  uint8_t* inputs;
  int32_t* products;  // [tiles][panels][36][16]
  bool general;       // the fast epilogue would not do
};

// Times B.
[[gnu::always_inline]] inline void transform_inputs(const __m512i* d, ptrdiff_t from, __m512i* r,
                                                    ptrdiff_t to) {
  const __m512i d0 = d[0], d1 = d[from], d2 = d[2 * from], d3 = d[3 * from], d4 = d[4 * from],
                d5 = d[5 * from];
  const __m512i odd = _mm512_sub_epi16(_mm512_slli_epi16(d1, 2), d3);
  const __m512i even = _mm512_sub_epi16(_mm512_slli_epi16(d2, 2), d4);
  const __m512i near = _mm512_sub_epi16(d4, d2);
  const __m512i difference = _mm512_sub_epi16(d3, d1), far = _mm512_add_epi16(difference, difference);
  r[0] = _mm512_add_epi16(_mm512_slli_epi16(_mm512_sub_epi16(d0, d2), 2), near);
  r[to] = _mm512_add_epi16(even, odd);
  r[2 * to] = _mm512_sub_epi16(even, odd);
  r[3 * to] = _mm512_add_epi16(near, far);
  r[4 * to] = _mm512_sub_epi16(near, far);
  r[5 * to] = _mm512_sub_epi16(_mm512_sub_epi16(d5, d3), _mm512_add_epi16(far, far));
}

int smaller(int a, int b) { return a < b ? a : b; }

// All channels of tile `t` of the block, at `row`, `col` of the pixels; what is read beyond them meets no
// weights. Inputs beyond the grid's window are taken from its edge: they only reach outputs that are not
// stored.
void tile_inputs(const Block& b, int t, int row, int col) {
  const ConvInt8Args& args = *b.args;
  const uint8_t* x[kWinogradInputs];
  ptrdiff_t at[kWinogradInputs];
  const uint8_t* origin = args.x + args.tap_offset[0];
#pragma GCC unroll 6
  for (int i = 0; i < kWinogradInputs; ++i) {
    x[i] = origin + smaller(row + i, args.rows + 1) * args.x_row_stride;
    at[i] = smaller(col + i, args.cols + 1) * args.x_col_stride;
    asm("" : "+r"(at[i]));  // in a register, so that every load adds two
  }
  const ptrdiff_t position = b.position;
  uint8_t* out = b.inputs + t * b.tile;
  for (ptrdiff_t channel = 0; channel < args.k; channel += 32, out += 64) {
    __m512i half[kWinogradInputs][kWinogradInputs], values[kWinogradInputs];
#pragma GCC unroll 6
    for (int i = 0; i < kWinogradInputs; ++i) {
      const uint8_t* from = x[i] + channel;
      asm("" : "+r"(from));
#pragma GCC unroll 6
      for (int j = 0; j < kWinogradInputs; ++j)
        values[j] = _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + at[j])));
      transform_inputs(values, 1, half[i], 1);
    }
    uint8_t* to = out;
#pragma GCC unroll 6
    for (int j = 0; j < kWinogradInputs; ++j, to += position) {
      transform_inputs(&half[0][j], kWinogradInputs, values, 1);
      uint8_t* at_row = to;
#pragma GCC unroll 6
      for (int i = 0; i < kWinogradInputs; ++i, at_row += 6 * position) {
        asm("" : "+r"(at_row));
        _mm512_store_si512(at_row, values[i]);
      }
    }
  }
}

// One position of some tiles and output channels, all input channels.
struct Products {
  const uint8_t* x;
  ptrdiff_t tile, position;
  const uint8_t* w;
  ptrdiff_t panel;       // bytes from the weights of 16 output channels to those of the next
  ptrdiff_t pairs;       // of input channels
  const uint8_t* later;  // half of the weights of a later position
  int32_t* out;          // [tiles][panels][36][16]
};

// Products of two channels, `offset` bytes behind the pointers x, one for every three tiles.
template <int M, int NV>
[[gnu::always_inline]] inline void add_products(const Products& p, const uint8_t* w,
                                                const uint8_t* const (&x)[(M + 2) / 3], ptrdiff_t offset,
                                                __m512i (&acc)[M * NV]) {
  __m512i weights[NV];
#pragma GCC unroll 2
  for (int j = 0; j < NV; ++j) {
    weights[j] = _mm512_load_si512(w + j * p.panel);
    _mm_prefetch(reinterpret_cast<const char*>(w + j * p.panel + kPrefetchBytes), _MM_HINT_T0);
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
    int32_t inputs;
    __builtin_memcpy(&inputs, x[m / 3] + (m % 3) * p.tile + offset, 4);
    const __m512i value = _mm512_set1_epi32(inputs);
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) acc[m * NV + j] = _mm512_dpwssd_epi32(acc[m * NV + j], value, weights[j]);
  }
}

template <int M, int NV>
[[gnu::noinline]] void products(const Products& p) {
  __m512i acc[M * NV];
#pragma GCC unroll 28
  for (int i = 0; i < M * NV; ++i) acc[i] = _mm512_setzero_si512();
  // One pointer per three tiles: the others are reached as [p + s] and [p + 2 * s], so registers suffice.
  const uint8_t* x[(M + 2) / 3];
#pragma GCC unroll 5
  for (int i = 0; i < (M + 2) / 3; ++i) x[i] = p.x + 3 * i * p.tile;
  const uint8_t* w = p.w;
  const char* inputs = reinterpret_cast<const char*>(p.x + p.position);
  const char* weights = reinterpret_cast<const char*>(p.later);
  for (ptrdiff_t pair = 0; pair < p.pairs; pair += 2, w += 128) {
    // What the next position reads of the inputs, two lines a turn for up to 16 tiles, and what a later one
    // reads of the weights. Lines from L3 take longer than a position, so they must come in evenly: without
    // this, 14x14 pixels of 256 channels take 1.2 times as long.
    _mm_prefetch(inputs, _MM_HINT_T0);
    if (M > 8) _mm_prefetch(inputs + 64, _MM_HINT_T0);
    inputs += M > 8 ? 128 : 64;
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) _mm_prefetch(weights + j * p.panel, _MM_HINT_T1);
    weights += 64;
    add_products<M, NV>(p, w, x, 0, acc);
    add_products<M, NV>(p, w + 64, x, 4, acc);
#pragma GCC unroll 5
    for (int i = 0; i < (M + 2) / 3; ++i) x[i] += 8;
  }
#pragma GCC unroll 28
  for (int i = 0; i < M * NV; ++i) _mm512_store_si512(p.out + i * kWinogradPositions * 16, acc[i]);
}

using ProductsFunction = void (*)(const Products&);

#define PYRUNTIME_PRODUCTS(m) {products<m, 1>, products<m, 2>}

// [tiles - 1][panels - 1]
constexpr ProductsFunction kProducts[kRegisterTiles][kPanels] = {
    PYRUNTIME_PRODUCTS(1),  PYRUNTIME_PRODUCTS(2),  PYRUNTIME_PRODUCTS(3),  PYRUNTIME_PRODUCTS(4),
    PYRUNTIME_PRODUCTS(5),  PYRUNTIME_PRODUCTS(6),  PYRUNTIME_PRODUCTS(7),  PYRUNTIME_PRODUCTS(8),
    PYRUNTIME_PRODUCTS(9),  PYRUNTIME_PRODUCTS(10), PYRUNTIME_PRODUCTS(11), PYRUNTIME_PRODUCTS(12),
    PYRUNTIME_PRODUCTS(13), PYRUNTIME_PRODUCTS(14),
};

// All tiles of the block and `panels` times 16 output channels, whose weights are at `w`.
void block_products(const Block& b, const uint8_t* w, int panels) {
  Products p;
  p.tile = b.tile;
  p.position = b.position;
  p.pairs = conv_int8::winograd_channels(b.args->k) / 2;
  p.panel = kWinogradPositions * p.pairs * 64;
  const int groups = (b.tiles + kRegisterTiles - 1) / kRegisterTiles;
  const int small = b.tiles / groups, larger = b.tiles % groups;  // the first groups have one tile more
  const ptrdiff_t tile_products = static_cast<ptrdiff_t>(panels) * kWinogradPositions * 16;
  for (int position = 0; position < kWinogradPositions; ++position) {
    p.w = w + position * p.pairs * 64;
    p.x = b.inputs + position * b.position;
    p.out = b.products + position * 16;
    for (int g = 0; g < groups; ++g) {
      const int count = small + (g < larger ? 1 : 0);
      p.later = p.w + (2 * kPrefetchPositions + g % 2) * p.pairs * 32;
      kProducts[count - 1][panels - 1](p);
      p.x += count * p.tile;
      p.out += count * tile_products;
    }
  }
}

// Times A without its divisors.
[[gnu::always_inline]] inline void transform_outputs(const __m512i* m, ptrdiff_t from, __m512i* r,
                                                     ptrdiff_t to) {
  const __m512i m1 = m[from], m2 = m[2 * from], m3 = m[3 * from], m4 = m[4 * from];
  const __m512i sum = _mm512_add_epi32(m1, m2), far_sum = _mm512_add_epi32(m3, m4);
  const __m512i difference = _mm512_sub_epi32(m1, m2), far = _mm512_sub_epi32(m3, m4);
  const __m512i both = _mm512_add_epi32(difference, far);
  r[0] = _mm512_add_epi32(_mm512_add_epi32(m[0], far_sum), _mm512_slli_epi32(sum, 2));
  r[to] = _mm512_add_epi32(both, difference);
  r[2 * to] = _mm512_add_epi32(sum, far_sum);
  r[3 * to] = _mm512_add_epi32(_mm512_add_epi32(both, far), m[5 * from]);
}

constexpr int kShift[kWinogradTile] = {3, 2, 1, 1};  // of the divisors 24, 12, 6, 6
constexpr int32_t kInverseOf9 = 0x38E38E39;          // modulo 2^32

// Where the results of a tile go: its first pixel, and as many rows and columns as the grid has there.
struct Target {
  int rows, cols;
  uint8_t* y;
  ptrdiff_t y_row, y_col;
  const uint8_t* residual;
  ptrdiff_t residual_row, residual_col;
  int channel, channels;  // the first, and how many are left from it on
};

// A row of pixels by the general epilogue, which works from memory and exists once.
[[gnu::noinline]] void store_general(const Requantize& q, const Target& t, int row, const __m512i* acc) {
  for (int j = 0; j < t.cols; ++j) {
    const uint8_t* residual =
        t.residual == nullptr ? nullptr : t.residual + row * t.residual_row + j * t.residual_col;
    requantize_store16(q, acc[j], t.channel, t.channels, residual, t.y + row * t.y_row + j * t.y_col);
  }
}

template <bool RESIDUAL>
[[gnu::always_inline]] inline void store_u8(const Requantize& q, const RequantizeVectors& constants,
                                            const Target& t, int row, const __m512i (&acc)[kWinogradTile]) {
  const __mmask16 mask = requantize_mask16(t.channels);
  __m512i v[kWinogradTile];
#pragma GCC unroll 4
  for (int j = 0; j < kWinogradTile; ++j) {
    if (RESIDUAL) {
      const int col = j < t.cols ? j : t.cols - 1;
      const uint8_t* residual = t.residual + row * t.residual_row + col * t.residual_col + t.channel;
      v[j] = requantize_residual_to_s32(constants, requantize_scale(q, acc[j], t.channel),
                                        _mm_maskz_loadu_epi8(mask, residual));
    } else {
      v[j] = requantize_to_s32(q, acc[j], t.channel);
    }
  }
  const __m512i bytes = requantize_pack(constants, v[0], v[1], v[2], v[3]);
  uint8_t* y = t.y + row * t.y_row + t.channel;
  _mm_mask_storeu_epi8(y, mask, _mm512_castsi512_si128(bytes));
  if (t.cols > 1) _mm_mask_storeu_epi8(y + t.y_col, mask, _mm512_extracti32x4_epi32(bytes, 1));
  if (t.cols > 2) _mm_mask_storeu_epi8(y + 2 * t.y_col, mask, _mm512_extracti32x4_epi32(bytes, 2));
  if (t.cols > 3) _mm_mask_storeu_epi8(y + 3 * t.y_col, mask, _mm512_extracti32x4_epi32(bytes, 3));
}

enum class Epilogue { u8, residual, general };

// 16 output channels of a tile from its products.
template <Epilogue EPILOGUE>
void tile_outputs(const Requantize& requantize, const Target& target, const int32_t* products) {
  // Copies, since a store of bytes may change what references refer to: members would be loaded again.
  const Requantize q = requantize;
  const Target t = target;
  const RequantizeVectors constants = requantize_vectors(q);
  __m512i half[kWinogradTile][kWinogradInputs], values[kWinogradInputs];
#pragma GCC unroll 6
  for (int j = 0; j < kWinogradInputs; ++j) {
#pragma GCC unroll 6
    for (int i = 0; i < kWinogradInputs; ++i) values[i] = _mm512_load_si512(products + (6 * i + j) * 16);
    transform_outputs(values, 1, &half[0][j], kWinogradInputs);
  }
  const __m512i init = _mm512_loadu_si512(q.acc_init + t.channel);
#pragma GCC unroll 4
  for (int i = 0; i < kWinogradTile; ++i) {
    if (i >= t.rows) return;
    __m512i acc[kWinogradTile];
    transform_outputs(half[i], 1, acc, 1);
#pragma GCC unroll 4
    for (int j = 0; j < kWinogradTile; ++j) {
      const __m512i whole = _mm512_mullo_epi32(acc[j], _mm512_set1_epi32(kInverseOf9));
      acc[j] = _mm512_add_epi32(_mm512_srai_epi32(whole, static_cast<unsigned>(kShift[i] + kShift[j])), init);
    }
    if (EPILOGUE == Epilogue::general) {
      store_general(q, t, i, acc);
    } else {
      store_u8<EPILOGUE == Epilogue::residual>(q, constants, t, i, acc);
    }
  }
}

// `panels` times 16 output channels from `channel` on, for tile `t` of the block, at `row`, `col` of the
// pixels.
void block_outputs(const Block& b, int t, int row, int col, int channel, int panels) {
  const ConvInt8Args& args = *b.args;
  const Requantize& q = args.requantize;
  Target target;
  target.rows = smaller(kWinogradTile, args.rows - row);
  target.cols = smaller(kWinogradTile, args.cols - col);
  target.y = static_cast<uint8_t*>(args.y) + row * args.y_row_stride + col * args.y_col_stride;
  target.y_row = args.y_row_stride;
  target.y_col = args.y_col_stride;
  target.residual = q.residual;
  target.residual_row = q.residual_row_stride;
  target.residual_col = q.residual_col_stride;
  if (q.residual != nullptr) target.residual += row * target.residual_row + col * target.residual_col;
  const auto outputs = b.general               ? tile_outputs<Epilogue::general>
                       : q.residual == nullptr ? tile_outputs<Epilogue::u8>
                                               : tile_outputs<Epilogue::residual>;
  for (int j = 0; j < panels; ++j) {
    target.channel = channel + 16 * j;
    target.channels = args.n - target.channel;
    outputs(q, target, b.products + static_cast<ptrdiff_t>(t * panels + j) * kWinogradPositions * 16);
  }
}

// function(tile of the block, first row and column of its pixels).
template <typename Function>
[[gnu::always_inline]] inline void for_each_tile(const Block& b, Function function) {
  int row = b.first / b.tile_cols * kWinogradTile, col = b.first % b.tile_cols * kWinogradTile;
  for (int t = 0; t < b.tiles; ++t) {
    function(t, row, col);
    col += kWinogradTile;
    if (col >= b.args->cols) {
      col = 0;
      row += kWinogradTile;
    }
  }
}

}  // namespace

void run_conv_int8_u8s8s32_winograd4x4__avx512vnni(const ConvInt8Args& args) {
  if (args.rows <= 0 || args.cols <= 0) return;
  Block b{};
  b.args = &args;
  b.tile_cols = (args.cols + kWinogradTile - 1) / kWinogradTile;
  b.tile = conv_int8::winograd_l2_tile_bytes(args.k);
  b.position = conv_int8::winograd_l2_position_bytes(args.k);
  b.inputs = static_cast<uint8_t*>(args.scratch);
  b.products = reinterpret_cast<int32_t*>(b.inputs + kWinogradPositions * b.position);
  b.general = conv_int8::needs_general_epilogue(args);
  const int64_t tiles = static_cast<int64_t>((args.rows + kWinogradTile - 1) / kWinogradTile) * b.tile_cols;
  const int64_t most = conv_int8::winograd_l2_tiles(args.k), blocks = (tiles + most - 1) / most;
  const ptrdiff_t panel = kWinogradPositions * conv_int8::winograd_channels(args.k) * 32;
  for (int64_t i = 0; i < blocks; ++i) {
    b.first = static_cast<int>(tiles * i / blocks);
    b.tiles = static_cast<int>(tiles * (i + 1) / blocks) - b.first;
    for_each_tile(b, [&](int t, int row, int col) { tile_inputs(b, t, row, col); });
    for (int channel = args.n_begin; channel < args.n_end; channel += 16 * kPanels) {
      const int panels = smaller(kPanels, (args.n_end - channel + 15) / 16);
      block_products(b, static_cast<const uint8_t*>(args.w) + channel / 16 * panel, panels);
      for_each_tile(b, [&](int t, int row, int col) { block_outputs(b, t, row, col, channel, panels); });
    }
  }
}

}  // namespace pyruntime
