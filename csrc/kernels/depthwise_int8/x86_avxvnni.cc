// depthwise_int8 on AVX-VNNI: 32 channels at a time, quads of taps as in x86_avx512vnni.cc, whose packing it
// reads by halves. Usual windows take two outputs at a time, which share quads:
//
//   for every column of a 3x3 window: 3 loads, 8 unpacks, and 4 VPDPBUSD for each output it belongs to
//
// 8 accumulators, 4 vectors of quads and what unpacking needs fill the 16 registers; weights are memory
// operands.
#include "kernels/depthwise_int8/pack.h"
#include "kernels/depthwise_int8/x86_avx2_body.h"

namespace pyruntime {
namespace {

using depthwise_int8::QuadLayout;

constexpr ptrdiff_t kQuadVectors = 8;  // of 32 bytes, for 64 channels

// Dwords of four taps of a channel from `count` (1 to 4) rows or columns; bytes of the missing ones are
// arbitrary, their weights are zero.
[[gnu::always_inline]] inline void interleave(const uint8_t* x, ptrdiff_t stride, int count,
                                              __m256i (&out)[4]) {
  const __m256i r0 = load32(x), r1 = count > 1 ? load32(x + stride) : r0;
  const __m256i a = _mm256_unpacklo_epi8(r0, r1), b = _mm256_unpackhi_epi8(r0, r1);
  __m256i c = a, d = b;
  if (count > 2) {
    const __m256i r2 = load32(x + 2 * stride), r3 = count > 3 ? load32(x + 3 * stride) : r2;
    c = _mm256_unpacklo_epi8(r2, r3);
    d = _mm256_unpackhi_epi8(r2, r3);
  }
  out[0] = _mm256_unpacklo_epi16(a, c);
  out[1] = _mm256_unpackhi_epi16(a, c);
  out[2] = _mm256_unpacklo_epi16(b, d);
  out[3] = _mm256_unpackhi_epi16(b, d);
}

[[gnu::always_inline]] inline void add_products(const __m256i* w, const __m256i (&x)[4], __m256i (&acc)[4]) {
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) acc[v] = _mm256_dpbusd_avx_epi32(acc[v], x[v], _mm256_load_si256(w + 2 * v));
}

// Quads of columns: every one is interleaved once and meets the weights of all M outputs it belongs to.
template <int KH, int KW, int STRIDE, int M>
[[gnu::always_inline]] inline void add_columns(const DepthwiseInt8Args& args, const Tile& t,
                                               __m256i (&acc)[M][4]) {
  constexpr QuadLayout kLayout{KH, KW};
  constexpr int kRows = kLayout.vertical_rows();
#pragma GCC unroll 2
  for (int row = 0; row < kRows; ++row) {
    const uint8_t* column = t.x + t.channel + 4 * row * args.tap_row_stride;
#pragma GCC unroll 16
    for (int c = 0; c < (M - 1) * STRIDE + KW; ++c, column += args.tap_col_stride) {
      __m256i x[4];
      interleave(column, args.tap_row_stride, kLayout.vertical_count(row), x);
      const __m256i* w = t.w;
      asm("" : "+r"(w));  // weights stay memory operands: kept over columns, they would be spilled
#pragma GCC unroll 2
      for (int m = 0; m < M; ++m) {
        const int j = c - m * STRIDE;
        if (j >= 0 && j < KW) add_products(w + (row * KW + j) * kQuadVectors, x, acc[m]);
      }
    }
  }
}

// Quads of the row that is left over.
template <int KH, int KW, int STRIDE, int M>
[[gnu::always_inline]] inline void add_last_row(const DepthwiseInt8Args& args, const Tile& t,
                                                __m256i (&acc)[M][4]) {
  constexpr QuadLayout kLayout{KH, KW};
  constexpr int kQuads = kLayout.horizontal();
  static_assert(KW >= 4, "a horizontal quad has four columns");
  const uint8_t* column = t.x + t.channel + (KH - 1) * args.tap_row_stride;
#pragma GCC unroll 16
  for (int c = 0; c < (M - 1) * STRIDE + KW - 3; ++c, column += args.tap_col_stride) {
    __m256i x[4];
    interleave(column, args.tap_col_stride, 4, x);
    const __m256i* w = t.w + kLayout.vertical_rows() * KW * kQuadVectors;
    asm("" : "+r"(w));
#pragma GCC unroll 2
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
      for (int h = 0; h < kQuads; ++h) {
        if (c == m * STRIDE + kLayout.horizontal_column(h)) add_products(w + h * kQuadVectors, x, acc[m]);
      }
    }
  }
}

// M outputs side by side; x_col_stride is STRIDE * tap_col_stride.
template <int KH, int KW, int STRIDE, int M>
[[gnu::noinline]] void run_outputs(const DepthwiseInt8Args& args, const Tile& t) {
  __m256i acc[M][4];
  load_init<M>(t, acc);
  add_columns<KH, KW, STRIDE, M>(args, t, acc);
  if constexpr (QuadLayout{KH, KW}.horizontal() > 0) add_last_row<KH, KW, STRIDE, M>(args, t, acc);
  store_tile<M>(args, t, acc);
}

template <int KH, int KW, int STRIDE>
void run_row(const DepthwiseInt8Args& args, Tile t) {
  int col = 0;
  for (; col + 2 <= args.cols; col += 2, advance(args, 2, &t)) run_outputs<KH, KW, STRIDE, 2>(args, t);
  if (col < args.cols) run_outputs<KH, KW, STRIDE, 1>(args, t);
}

// `count` of 1 to 4 known at run time only.
void interleave_any(const uint8_t* x, ptrdiff_t stride, int count, __m256i (&out)[4]) {
  if (count == 1)
    interleave(x, stride, 1, out);
  else if (count == 2)
    interleave(x, stride, 2, out);
  else if (count == 3)
    interleave(x, stride, 3, out);
  else
    interleave(x, stride, 4, out);
}

// Any window and any strides: every output interleaves its own quads.
void run_row_any(const DepthwiseInt8Args& args, Tile t) {
  const QuadLayout layout{args.kh, args.kw};
  for (int col = 0; col < args.cols; ++col, advance(args, 1, &t)) {
    __m256i acc[1][4], x[4];
    load_init<1>(t, acc);
    const __m256i* w = t.w;
    const uint8_t* origin = t.x + t.channel;
    for (int i = 0; i < layout.vertical_rows(); ++i) {
      for (int j = 0; j < args.kw; ++j, w += kQuadVectors) {
        interleave_any(origin + 4 * i * args.tap_row_stride + j * args.tap_col_stride, args.tap_row_stride,
                       layout.vertical_count(i), x);
        add_products(w, x, acc[0]);
      }
    }
    for (int h = 0; h < layout.horizontal(); ++h, w += kQuadVectors) {
      const ptrdiff_t at =
          (args.kh - 1) * args.tap_row_stride + layout.horizontal_column(h) * args.tap_col_stride;
      interleave_any(origin + at, args.tap_col_stride, layout.horizontal_count(), x);
      add_products(w, x, acc[0]);
    }
    store_tile<1>(args, t, acc);
  }
}

using RowFunction = void (*)(const DepthwiseInt8Args&, Tile);

RowFunction choose(const DepthwiseInt8Args& args) {
  const int size = args.kh == args.kw ? args.kh : 0;
  if (args.x_col_stride == args.tap_col_stride) {
    if (size == 3) return run_row<3, 3, 1>;
    if (size == 5) return run_row<5, 5, 1>;
    if (size == 7) return run_row<7, 7, 1>;
  } else if (args.x_col_stride == 2 * args.tap_col_stride) {
    if (size == 3) return run_row<3, 3, 2>;
    if (size == 5) return run_row<5, 5, 2>;
  }
  return run_row_any;
}

}  // namespace

void run_depthwise_int8_u8s8s32_quads__avxvnni(const DepthwiseInt8Args& args) {
  const ptrdiff_t block = QuadLayout{args.kh, args.kw}.size() * kQuadVectors;
  const auto weights = [&](int channel) {
    return static_cast<const __m256i*>(args.w) + channel / 64 * block + channel % 64 / 32;
  };
  const RowFunction row = choose(args);
  for_each_row(args, weights, [&](const Tile& t) { row(args, t); });
}

}  // namespace pyruntime
