// depthwise_int8 on AVX-512-VNNI, 64 channels (one load per row) at a time. Activations are interleaved into
// quads, dwords of four taps of one channel: four rows of a column,
//
//   [r0 r1 r2 r3]        by byte and word unpacks within 128-bit lanes, 4 vectors of 16 channels,
//
// or four columns of the one row that is left over in 5x5 windows. VPDPBUSD with the packed weights (memory
// operand, zero for missing taps) adds up to four taps of 16 channels. The saturating packs of the epilogue
// undo the lane order. Usual windows and strides take four outputs at a time, which share quads; others
// interleave anew for every output. (Keeping the quads in a buffer costs more than it saves: on Zen 4 every
// 64-byte store takes 2 cycles and holds up the multipliers.)
//
// A last block of at most 32 (16) channels puts 2 (4) segments of the pixel row side by side in one vector.
#include <immintrin.h>

#include "kernels/depthwise_int8/depthwise_int8.h"
#include "kernels/depthwise_int8/pack.h"
#include "kernels/requantize_avx512.h"

namespace pyruntime {
namespace {

using depthwise_int8::QuadLayout;

constexpr int kMaxBlocks = 2;  // worked on side by side

// One block of up to 64 channels. Parameters are in the order of the packed weights.
struct Block {
  alignas(64) int32_t acc_init[64];
  alignas(64) float multiplier[64];
  alignas(64) float offset[64];
  RequantizeVectors constants;
  __m512i own_lowest, own_highest;  // bounds before a residual is added, bytes
  const int8_t* w;
  int channel, channels;
  bool general;   // see needs_general
  bool residual;  // to add
  bool plain;     // all 64 channels, and the packs saturate to what the bounds are
  int pixels;     // segments of the row side by side: 1, 2 or 4
  const DepthwiseInt8Args* args;
};

struct RowPointers {  // of one output row, at channel 0 of the block, segment by segment
  const uint8_t* x[4];
  uint8_t* y[4];
  const uint8_t* residual[4];
};

[[gnu::always_inline]] inline __m512i load_row(const RowPointers& p, ptrdiff_t offset, int pixels) {
  if (pixels == 1) return _mm512_loadu_si512(p.x[0] + offset);
  if (pixels == 2) {
    const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p.x[0] + offset));
    const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p.x[1] + offset));
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
  }
  __m512i v = _mm512_castsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p.x[0] + offset)));
  v = _mm512_inserti32x4(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p.x[1] + offset)), 1);
  v = _mm512_inserti32x4(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p.x[2] + offset)), 2);
  return _mm512_inserti32x4(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p.x[3] + offset)), 3);
}

// Interleaves `count` rows (1 to 4) that start at `offset`; bytes of missing rows are arbitrary, their
// weights are zero.
[[gnu::always_inline]] inline void interleave(const RowPointers& p, ptrdiff_t offset, ptrdiff_t row_stride,
                                              int count, int pixels, __m512i (&out)[4]) {
  const __m512i r0 = load_row(p, offset, pixels);
  if (count == 1) {  // channel 4 * v + d of every lane to byte 4 * d
    const __m512i spread = _mm512_set4_epi32(0x03030303, 0x02020202, 0x01010101, 0x00000000);
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      out[v] = _mm512_shuffle_epi8(r0, _mm512_add_epi8(spread, _mm512_set1_epi8(static_cast<char>(4 * v))));
    }
    return;
  }
  const __m512i r1 = load_row(p, offset + row_stride, pixels);
  const __m512i a = _mm512_unpacklo_epi8(r0, r1), b = _mm512_unpackhi_epi8(r0, r1);
  __m512i c = a, d = b;
  if (count > 2) {
    const __m512i r2 = load_row(p, offset + 2 * row_stride, pixels);
    const __m512i r3 = count > 3 ? load_row(p, offset + 3 * row_stride, pixels) : r2;
    c = _mm512_unpacklo_epi8(r2, r3);
    d = _mm512_unpackhi_epi8(r2, r3);
  }
  out[0] = _mm512_unpacklo_epi16(a, c);
  out[1] = _mm512_unpackhi_epi16(a, c);
  out[2] = _mm512_unpacklo_epi16(b, d);
  out[3] = _mm512_unpackhi_epi16(b, d);
}

[[gnu::always_inline]] inline void add_products(const int8_t* w, const __m512i (&x)[4], __m512i (&acc)[4]) {
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) acc[v] = _mm512_dpbusd_epi32(acc[v], x[v], _mm512_loadu_si512(w + 64 * v));
}

// f32 output: back to channel order through memory.
[[gnu::noinline]] void store_general(const Block& b, const __m512i* acc, const RowPointers& p, int o) {
  const DepthwiseInt8Args& args = *b.args;
  alignas(64) int32_t memory[64];
  for (int v = 0; v < 4; ++v) _mm512_store_si512(memory + 16 * v, acc[v]);
  const int lanes = 4 / b.pixels;
  for (int lane = 0; lane < 4; ++lane) {
    const int segment = lane / lanes, first = 16 * (lane % lanes);
    if (first >= b.channels) continue;
    alignas(64) int32_t values[16];
    for (int i = 0; i < 16; ++i) values[i] = memory[16 * (i / 4) + 4 * lane + i % 4];
    const uint8_t* residual = p.residual[segment];
    if (residual != nullptr) residual += o * args.requantize.residual_col_stride;
    requantize_store16(args.requantize, _mm512_load_si512(values), b.channel + first, b.channels - first,
                       residual, p.y[segment] + o * args.y_col_stride);
  }
}

// True if the fast epilogue would not do: f32 output, or scaled values that may leave s32.
bool needs_general(const DepthwiseInt8Args& args, const Block& b) {
  const Requantize& q = args.requantize;
  if (q.f32_output) return true;
  const float products =
      32640.0f * static_cast<float>(args.kh) * static_cast<float>(args.kw);  // 255 * 128 each
  return !requantize_fits_s32(q, b.channel, b.channel + b.channels, products);
}

[[gnu::always_inline]] inline __m512i to_s32(const Block& b, __m512i acc, int v) {
  const __m512 f = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc), _mm512_load_ps(b.multiplier + 16 * v),
                                   _mm512_load_ps(b.offset + 16 * v));
  return _mm512_cvtps_epi32(f);
}

// Adds the residuals of output o of every segment.
[[gnu::noinline]] __m512i add_residual(const Block& b, const RowPointers& p, int o, __m512i bytes) {
  const ptrdiff_t at = o * b.args->requantize.residual_col_stride + b.channel;
  const __mmask64 mask = _bzhi_u64(~0ull, static_cast<unsigned>(b.channels));
  __m512i residual;
  if (b.pixels == 1) {
    residual = _mm512_maskz_loadu_epi8(mask, p.residual[0] + at);
  } else if (b.pixels == 2) {
    const __mmask32 mask32 = static_cast<__mmask32>(mask);
    residual = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_maskz_loadu_epi8(mask32, p.residual[0] + at)),
                                  _mm256_maskz_loadu_epi8(mask32, p.residual[1] + at), 1);
  } else {
    const __mmask16 mask16 = static_cast<__mmask16>(mask);
    residual = _mm512_castsi128_si512(_mm_maskz_loadu_epi8(mask16, p.residual[0] + at));
    residual = _mm512_inserti32x4(residual, _mm_maskz_loadu_epi8(mask16, p.residual[1] + at), 1);
    residual = _mm512_inserti32x4(residual, _mm_maskz_loadu_epi8(mask16, p.residual[2] + at), 2);
    residual = _mm512_inserti32x4(residual, _mm_maskz_loadu_epi8(mask16, p.residual[3] + at), 3);
  }
  bytes = _mm512_min_epu8(_mm512_max_epu8(bytes, b.own_lowest), b.own_highest);
  return requantize_add_bytes(b.constants, bytes, residual);
}

// Output o of every segment from the words of vectors 0, 1 and 2, 3 (_mm512_packs_epi32).
[[gnu::always_inline]] inline void store_words(const Block& b, __m512i low, __m512i high,
                                               const RowPointers& p, int o, int pixels) {
  __m512i bytes = _mm512_packus_epi16(low, high);
  if (b.residual) bytes = add_residual(b, p, o, bytes);
  const ptrdiff_t at = o * b.args->y_col_stride + b.channel;
  if (pixels == 1 && b.plain) {
    _mm512_storeu_si512(p.y[0] + at, bytes);
    return;
  }
  bytes = _mm512_min_epu8(_mm512_max_epu8(bytes, b.constants.lowest), b.constants.highest);
  const __mmask64 mask = _bzhi_u64(~0ull, static_cast<unsigned>(b.channels));
  if (pixels == 1) {
    _mm512_mask_storeu_epi8(p.y[0] + at, mask, bytes);
  } else if (pixels == 2) {
    const __mmask32 mask32 = static_cast<__mmask32>(mask);
    _mm256_mask_storeu_epi8(p.y[0] + at, mask32, _mm512_castsi512_si256(bytes));
    _mm256_mask_storeu_epi8(p.y[1] + at, mask32, _mm512_extracti64x4_epi64(bytes, 1));
  } else {
    const __mmask16 mask16 = static_cast<__mmask16>(mask);
    _mm_mask_storeu_epi8(p.y[0] + at, mask16, _mm512_castsi512_si128(bytes));
    _mm_mask_storeu_epi8(p.y[1] + at, mask16, _mm512_extracti32x4_epi32(bytes, 1));
    _mm_mask_storeu_epi8(p.y[2] + at, mask16, _mm512_extracti32x4_epi32(bytes, 2));
    _mm_mask_storeu_epi8(p.y[3] + at, mask16, _mm512_extracti32x4_epi32(bytes, 3));
  }
}

template <int KH, int KW>
struct Window {
  static constexpr QuadLayout kLayout{KH, KW};
  static constexpr int kRows = kLayout.vertical_rows(), kHorizontal = kLayout.horizontal();
  static_assert(kHorizontal == 0 || KW >= 4, "a horizontal quad has four columns");
};

// COUNT outputs side by side, from input offset `at` on: every quad is interleaved once and meets the weights
// of all outputs it belongs to.
template <int KH, int KW, int STRIDE, int PIXELS, int COUNT>
[[gnu::always_inline]] inline void add_window(const Block& b, const RowPointers& p, ptrdiff_t at,
                                              __m512i (&acc)[COUNT][4]) {
  using W = Window<KH, KW>;
  const ptrdiff_t row_stride = b.args->tap_row_stride, col_stride = b.args->tap_col_stride;
#pragma GCC unroll 2
  for (int row = 0; row < W::kRows; ++row) {
    ptrdiff_t column = at + 4 * row * row_stride;
#pragma GCC unroll 16
    for (int c = 0; c < (COUNT - 1) * STRIDE + KW; ++c, column += col_stride) {
      __m512i x[4];
      interleave(p, column, row_stride, W::kLayout.vertical_count(row), PIXELS, x);
      const int8_t* w = b.w;
      asm("" : "+r"(w));  // weights stay memory operands: kept over columns, they would be spilled
#pragma GCC unroll 4
      for (int i = 0; i < COUNT; ++i) {
        const int j = c - i * STRIDE;
        if (j >= 0 && j < KW) add_products(w + (row * KW + j) * 256, x, acc[i]);
      }
    }
  }
  if (W::kHorizontal == 0) return;
  ptrdiff_t column = at + (KH - 1) * row_stride;
#pragma GCC unroll 16
  for (int c = 0; c < (COUNT - 1) * STRIDE + KW - 3; ++c, column += col_stride) {
    __m512i x[4];
    interleave(p, column, col_stride, 4, PIXELS, x);
    const int8_t* w = b.w;
    asm("" : "+r"(w));
#pragma GCC unroll 4
    for (int i = 0; i < COUNT; ++i) {
#pragma GCC unroll 2
      for (int h = 0; h < W::kHorizontal; ++h) {
        if (c != i * STRIDE + W::kLayout.horizontal_column(h)) continue;
        add_products(w + (W::kRows * KW + h) * 256, x, acc[i]);
      }
    }
  }
}

template <int KH, int KW, int STRIDE, int PIXELS, int COUNT>
[[gnu::noinline]] void run_outputs(const Block& b, const RowPointers& p, int o) {
  __m512i acc[COUNT][4];
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    const __m512i init = _mm512_load_si512(b.acc_init + 16 * v);
#pragma GCC unroll 4
    for (int i = 0; i < COUNT; ++i) acc[i][v] = init;
  }
  add_window<KH, KW, STRIDE, PIXELS, COUNT>(b, p, b.channel + o * b.args->x_col_stride, acc);
  if (b.general) {
    __m512i memory[COUNT][4];
#pragma GCC unroll 4
    for (int i = 0; i < COUNT; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) memory[i][v] = acc[i][v];
    }
    for (int i = 0; i < COUNT; ++i) store_general(b, memory[i], p, o + i);
    return;
  }
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
#pragma GCC unroll 4
    for (int i = 0; i < COUNT; ++i) acc[i][v] = to_s32(b, acc[i][v], v);
  }
#pragma GCC unroll 4
  for (int i = 0; i < COUNT; ++i) {
    store_words(b, _mm512_packs_epi32(acc[i][0], acc[i][1]), _mm512_packs_epi32(acc[i][2], acc[i][3]), p,
                o + i, PIXELS);
  }
}

// `cols` outputs (of every segment); x_col_stride is STRIDE * tap_col_stride.
template <int KH, int KW, int STRIDE, int PIXELS>
void run_row(const Block& b, const RowPointers& p, int cols) {
  int o = 0;
  for (; o + 4 <= cols; o += 4) run_outputs<KH, KW, STRIDE, PIXELS, 4>(b, p, o);
  switch (cols - o) {
    case 1:
      run_outputs<KH, KW, STRIDE, PIXELS, 1>(b, p, o);
      break;
    case 2:
      run_outputs<KH, KW, STRIDE, PIXELS, 2>(b, p, o);
      break;
    case 3:
      run_outputs<KH, KW, STRIDE, PIXELS, 3>(b, p, o);
      break;
    default:
      break;
  }
}

// `count` of 1 to 4 known at run time only.
template <int PIXELS>
void interleave_any(const RowPointers& p, ptrdiff_t offset, ptrdiff_t stride, int count, __m512i (&x)[4]) {
  switch (count) {
    case 1:
      interleave(p, offset, stride, 1, PIXELS, x);
      break;
    case 2:
      interleave(p, offset, stride, 2, PIXELS, x);
      break;
    case 3:
      interleave(p, offset, stride, 3, PIXELS, x);
      break;
    default:
      interleave(p, offset, stride, 4, PIXELS, x);
      break;
  }
}

// Any window and any strides: every output interleaves its own quads.
template <int PIXELS>
void run_row_any(const Block& b, const RowPointers& p, int cols) {
  const DepthwiseInt8Args& args = *b.args;
  const QuadLayout layout{args.kh, args.kw};
  for (int o = 0; o < cols; ++o) {
    __m512i acc[4], x[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) acc[v] = _mm512_load_si512(b.acc_init + 16 * v);
    const int8_t* w = b.w;
    const ptrdiff_t origin = b.channel + o * args.x_col_stride;
    for (int i = 0; i < layout.vertical_rows(); ++i) {
      for (int j = 0; j < args.kw; ++j, w += 256) {
        const ptrdiff_t at = origin + 4 * i * args.tap_row_stride + j * args.tap_col_stride;
        interleave_any<PIXELS>(p, at, args.tap_row_stride, layout.vertical_count(i), x);
        add_products(w, x, acc);
      }
    }
    for (int h = 0; h < layout.horizontal(); ++h, w += 256) {
      const ptrdiff_t at =
          origin + (args.kh - 1) * args.tap_row_stride + layout.horizontal_column(h) * args.tap_col_stride;
      interleave_any<PIXELS>(p, at, args.tap_col_stride, layout.horizontal_count(), x);
      add_products(w, x, acc);
    }
    if (b.general) {
      const __m512i copy[4] = {acc[0], acc[1], acc[2], acc[3]};
      store_general(b, copy, p, o);
    } else {
      store_words(b, _mm512_packs_epi32(to_s32(b, acc[0], 0), to_s32(b, acc[1], 1)),
                  _mm512_packs_epi32(to_s32(b, acc[2], 2), to_s32(b, acc[3], 3)), p, o, PIXELS);
    }
  }
}

using RowFunction = void (*)(const Block&, const RowPointers&, int cols);

template <int PIXELS>
RowFunction choose(const DepthwiseInt8Args& args) {
  const int size = args.kh == args.kw ? args.kh : 0;
  if (args.x_col_stride == args.tap_col_stride) {
    if (size == 3) return run_row<3, 3, 1, PIXELS>;
    if (size == 5) return run_row<5, 5, 1, PIXELS>;
    if (size == 7) return run_row<7, 7, 1, PIXELS>;
  } else if (args.x_col_stride == 2 * args.tap_col_stride) {
    if (size == 3) return run_row<3, 3, 2, PIXELS>;
    if (size == 5) return run_row<5, 5, 2, PIXELS>;
  }
  return run_row_any<PIXELS>;
}

void load_parameters(const Requantize& q, Block* b) {
  const int lanes = 4 / b->pixels;
  for (int v = 0; v < 4; ++v) {
    for (int lane = 0; lane < 4; ++lane) {
      const int from = b->channel + 16 * (lane % lanes) + 4 * v, to = 16 * v + 4 * lane;
      _mm_store_si128(reinterpret_cast<__m128i*>(b->acc_init + to),
                      _mm_loadu_si128(reinterpret_cast<const __m128i*>(q.acc_init + from)));
      _mm_store_ps(b->multiplier + to, _mm_loadu_ps(q.multiplier + from));
      _mm_store_ps(b->offset + to, _mm_loadu_ps(q.offset + from));
    }
  }
}

void run_block_row(const Block& b, RowFunction row_function, int row) {
  const DepthwiseInt8Args& args = *b.args;
  const Requantize& q = args.requantize;
  const int segment =
      (args.cols + b.pixels - 1) / b.pixels;  // segments may overlap: the same bytes are written twice
  RowPointers p;
  for (int i = 0; i < b.pixels; ++i) {
    const int start = i * segment < args.cols - segment ? i * segment : args.cols - segment;
    p.x[i] = args.x + row * args.x_row_stride + start * args.x_col_stride;
    p.y[i] = static_cast<uint8_t*>(args.y) + row * args.y_row_stride + start * args.y_col_stride;
    p.residual[i] = q.residual == nullptr
                        ? nullptr
                        : q.residual + row * q.residual_row_stride + start * q.residual_col_stride;
  }
  row_function(b, p, segment);
}

}  // namespace

void run_depthwise_int8_u8s8s32_quads__avx512vnni(const DepthwiseInt8Args& args) {
  if (args.rows <= 0 || args.cols <= 0) return;
  const ptrdiff_t block_bytes = QuadLayout{args.kh, args.kw}.size() * 256;
  for (int channel = args.channel_begin; channel < args.channel_end;) {
    // Blocks side by side share cache lines where the pixel pitch is no multiple of 64.
    Block block[kMaxBlocks];
    RowFunction row_function[kMaxBlocks];
    int count = 0;
    for (; count < kMaxBlocks && channel < args.channel_end; ++count, channel += 64) {
      Block& b = block[count];
      b.args = &args;
      b.channel = channel;
      b.channels = args.channel_end - channel < 64 ? args.channel_end - channel : 64;
      b.w = static_cast<const int8_t*>(args.w) + channel / 64 * block_bytes;
      b.pixels = depthwise_int8::quads_pixels(b.channels);
      load_parameters(args.requantize, &b);
      b.general = needs_general(args, b);
      b.residual = args.requantize.residual != nullptr;
      b.constants = requantize_vectors(args.requantize);
      b.own_lowest = _mm512_set1_epi8(static_cast<char>(static_cast<int>(args.requantize.lo)));
      b.own_highest = _mm512_set1_epi8(static_cast<char>(static_cast<int>(args.requantize.hi)));
      b.plain = b.channels == 64 && requantize_whole_range(args.requantize);
      row_function[count] = b.pixels == 1   ? choose<1>(args)
                            : b.pixels == 2 ? choose<2>(args)
                                            : choose<4>(args);
    }
    for (int row = 0; row < args.rows; ++row) {
      for (int i = 0; i < count; ++i) run_block_row(block[i], row_function[i], row);
    }
  }
}

}  // namespace pyruntime
