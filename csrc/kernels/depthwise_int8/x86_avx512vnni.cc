// depthwise_int8 on AVX-512-VNNI. The rows of a window column are interleaved into dwords,
//
//   [r0 r1 r2 r3] of one channel, 16 channels a vector, 64 channels (one load per row) a block,
//
// by byte and word unpacks within 128-bit lanes; VPDPBUSD with the column's weights (memory operand, packed
// in the same order, zero for missing rows) then adds up to four taps of 16 channels. Columns come once, from
// left to right, and every column serves all outputs it belongs to: an output lives in one of SLOTS
// accumulator sets from its first column to its last. The saturating packs of the epilogue undo the lane
// order, so bytes leave in channel order.
//
// A last block of at most 32 (16) channels puts 2 (4) segments of the pixel row side by side in one vector.
#include <immintrin.h>

#include "kernels/depthwise_int8/depthwise_int8.h"
#include "kernels/depthwise_int8/pack.h"
#include "kernels/requantize_avx512.h"

namespace pyruntime {
namespace {

// One block of up to 64 channels. Parameters are in the order of the packed weights.
struct Block {
  alignas(64) int32_t acc_init[64];
  alignas(64) float multiplier[64];
  alignas(64) float offset[64];
  const int8_t* w;
  int channel, channels;
  int kh, kw, quads;
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

[[gnu::always_inline]] inline void init(const Block& b, __m512i (&acc)[4]) {
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) acc[v] = _mm512_load_si512(b.acc_init + 16 * v);
}

[[gnu::always_inline]] inline void add_products(const int8_t* w, const __m512i (&x)[4], __m512i (&acc)[4]) {
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) acc[v] = _mm512_dpbusd_epi32(acc[v], x[v], _mm512_loadu_si512(w + 64 * v));
}

// f32 output and residuals: back to channel order through memory.
[[gnu::noinline]] void store_general(const Block& b, const __m512i* acc, const RowPointers& p, int o,
                                     int pixels) {
  const DepthwiseInt8Args& args = *b.args;
  alignas(64) int32_t memory[64];
  for (int v = 0; v < 4; ++v) _mm512_store_si512(memory + 16 * v, acc[v]);
  const int lanes = 4 / pixels;
  for (int lane = 0; lane < 4; ++lane) {
    const int segment = lane / lanes, first = 16 * (lane % lanes);
    if (first >= b.channels) continue;
    __m512i values = _mm512_setzero_si512();
    for (int i = 15; i >= 0; --i) {  // rotate in from the last channel
      values = _mm512_alignr_epi32(values, _mm512_set1_epi32(memory[16 * (i / 4) + 4 * lane + i % 4]), 15);
    }
    const uint8_t* residual = p.residual[segment];
    if (residual != nullptr) residual += o * args.requantize.residual_col_stride;
    requantize_store16(args.requantize, values, b.channel + first, b.channels - first, residual,
                       p.y[segment] + o * args.y_col_stride);
  }
}

[[gnu::always_inline]] inline void store(const Block& b, const __m512i (&acc)[4], const RowPointers& p, int o,
                                         int pixels) {
  const Requantize& q = b.args->requantize;
  if (q.f32_output || q.residual != nullptr) {
    const __m512i copy[4] = {acc[0], acc[1], acc[2], acc[3]};
    store_general(b, copy, p, o, pixels);
    return;
  }
  __m512i i[4];
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    const __m512 f = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[v]), _mm512_load_ps(b.multiplier + 16 * v),
                                     _mm512_load_ps(b.offset + 16 * v));
    i[v] = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_set1_ps(q.hi), f));
  }
  const __m512i lo = _mm512_set1_epi8(static_cast<char>(static_cast<int>(q.lo)));
  const __m512i bytes = _mm512_max_epu8(
      lo, _mm512_packus_epi16(_mm512_packus_epi32(i[0], i[1]), _mm512_packus_epi32(i[2], i[3])));
  const ptrdiff_t at = o * b.args->y_col_stride + b.channel;
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

// `cols` outputs of one row (of every segment); x_col_stride is STRIDE * tap_col_stride.
template <int KH, int KW, int STRIDE, int PIXELS>
void run_row(const Block& b, const RowPointers& p, int cols) {
  constexpr int kSlots = (KW + STRIDE - 1) / STRIDE;
  constexpr int kPeriod = kSlots * STRIDE;
  constexpr int kQuads = (KH + 3) / 4;
  const ptrdiff_t row_stride = b.args->tap_row_stride, col_stride = b.args->tap_col_stride;
  const int columns = (cols - 1) * STRIDE + KW;
  __m512i acc[kSlots][4];
#pragma GCC unroll 5
  for (int slot = 0; slot < kSlots; ++slot) init(b, acc[slot]);
  ptrdiff_t at = b.channel;
  for (int c = 0; c < columns; c += kPeriod) {
#pragma GCC unroll 6
    for (int phase = 0; phase < kPeriod; ++phase, at += col_stride) {
      if (c + phase >= columns) return;
#pragma GCC unroll 2
      for (int quad = 0; quad < kQuads; ++quad) {
        __m512i x[4];
        interleave(p, at + 4 * quad * row_stride, row_stride, KH - 4 * quad < 4 ? KH - 4 * quad : 4, PIXELS,
                   x);
#pragma GCC unroll 5
        for (int j = KW - 1; j >= 0; --j) {
          if ((phase + kPeriod - j) % STRIDE != 0) continue;
          const int o = (c + phase - j) / STRIDE;  // exact where o >= 0
          const bool valid = (j == 0 || c + phase >= j) && (j == KW - 1 || o < cols);
          if (valid)
            add_products(b.w + (j * kQuads + quad) * 256, x, acc[(phase + kPeriod - j) / STRIDE % kSlots]);
        }
      }
      if ((phase + kPeriod - (KW - 1)) % STRIDE == 0 && c + phase >= KW - 1) {
        __m512i(&done)[4] = acc[(phase + kPeriod - (KW - 1)) / STRIDE % kSlots];
        store(b, done, p, (c + phase - (KW - 1)) / STRIDE, PIXELS);
        init(b, done);
      }
    }
  }
}

// Any window and any strides: every output interleaves its own columns.
template <int PIXELS>
void run_row_any(const Block& b, const RowPointers& p, int cols) {
  const DepthwiseInt8Args& args = *b.args;
  for (int o = 0; o < cols; ++o) {
    __m512i acc[4], x[4];
    init(b, acc);
    const int8_t* w = b.w;
    for (int j = 0; j < b.kw; ++j) {
      ptrdiff_t at = b.channel + o * args.x_col_stride + j * args.tap_col_stride;
      for (int i = 0; i < b.kh; i += 4, w += 256, at += 4 * args.tap_row_stride) {
        switch (b.kh - i) {
          case 1:
            interleave(p, at, args.tap_row_stride, 1, PIXELS, x);
            break;
          case 2:
            interleave(p, at, args.tap_row_stride, 2, PIXELS, x);
            break;
          case 3:
            interleave(p, at, args.tap_row_stride, 3, PIXELS, x);
            break;
          default:
            interleave(p, at, args.tap_row_stride, 4, PIXELS, x);
            break;
        }
        add_products(w, x, acc);
      }
    }
    store(b, acc, p, o, PIXELS);
  }
}

using RowFunction = void (*)(const Block&, const RowPointers&, int cols);

template <int PIXELS>
RowFunction choose(const DepthwiseInt8Args& args) {
  const bool stride1 = args.x_col_stride == args.tap_col_stride,
             stride2 = args.x_col_stride == 2 * args.tap_col_stride;
  if (args.kh == 3 && args.kw == 3 && stride1) return run_row<3, 3, 1, PIXELS>;
  if (args.kh == 3 && args.kw == 3 && stride2) return run_row<3, 3, 2, PIXELS>;
  if (args.kh == 5 && args.kw == 5 && stride1) return run_row<5, 5, 1, PIXELS>;
  if (args.kh == 5 && args.kw == 5 && stride2) return run_row<5, 5, 2, PIXELS>;
  return run_row_any<PIXELS>;
}

void load_parameters(const Requantize& q, int pixels, Block* b) {
  const int lanes = 4 / pixels;
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

void run_block(const Block& b, RowFunction run_row, int pixels) {
  const DepthwiseInt8Args& args = *b.args;
  const Requantize& q = args.requantize;
  const int segment =
      (args.cols + pixels - 1) / pixels;  // segments may overlap: the same bytes are written twice
  for (int row = 0; row < args.rows; ++row) {
    RowPointers p;
    for (int i = 0; i < pixels; ++i) {
      const int start = i * segment < args.cols - segment ? i * segment : args.cols - segment;
      p.x[i] = args.x + row * args.x_row_stride + start * args.x_col_stride;
      p.y[i] = static_cast<uint8_t*>(args.y) + row * args.y_row_stride + start * args.y_col_stride;
      p.residual[i] = q.residual == nullptr
                          ? nullptr
                          : q.residual + row * q.residual_row_stride + start * q.residual_col_stride;
    }
    run_row(b, p, segment);
  }
}

}  // namespace

void run_depthwise_int8_u8s8s32_quads__avx512vnni(const DepthwiseInt8Args& args) {
  if (args.rows <= 0 || args.cols <= 0) return;
  Block b;
  b.args = &args;
  b.kh = args.kh;
  b.kw = args.kw;
  b.quads = (args.kh + 3) / 4;
  for (int channel = args.channel_begin; channel < args.channel_end; channel += 64) {
    b.channel = channel;
    b.channels = args.channel_end - channel < 64 ? args.channel_end - channel : 64;
    b.w = static_cast<const int8_t*>(args.w) + static_cast<ptrdiff_t>(channel / 64) * b.kw * b.quads * 256;
    const int pixels = depthwise_int8::quads_pixels(b.channels);
    load_parameters(args.requantize, pixels, &b);
    run_block(b, pixels == 1 ? choose<1>(args) : pixels == 2 ? choose<2>(args) : choose<4>(args), pixels);
  }
}

}  // namespace pyruntime
