// 1x4-block weights for many pixels on AVX2 (sparse_pairs.h): inputs of up to 5 x 8 pixels are transposed
// into vectors of 8 pixels of one block; a channel then runs over its blocks, one product per block and
// vector.
#include <immintrin.h>

#include "base/transpose_avx2.h"
#include "kernels/conv_int8/sparse_pairs.h"
#include "kernels/conv_int8/sparse_pixel.h"
#include "kernels/requantize_avx2.h"

namespace pyruntime {
namespace {

using conv_int8::SparseList;

constexpr int kLanes = conv_int8::kPairLanes;

__m256i* vec(int32_t* p) { return reinterpret_cast<__m256i*>(p); }
const __m256i* vec(const int32_t* p) { return reinterpret_cast<const __m256i*>(p); }

void transpose_inputs(const ConvInt8Args& args, const Strip& strip, int vectors, int32_t* inputs) {
  const int blocks = (args.k + 3) / 4;
  for (int t = 0; t < args.taps; ++t) {
    for (int v = 0; v < vectors; ++v) {
      for (int b = 0; b < blocks; b += kLanes) {
        __m256i rows[kLanes];
        for (int i = 0; i < kLanes; ++i) {
          const int pixel = v * kLanes + i < strip.count ? v * kLanes + i : strip.count - 1;
          rows[i] = _mm256_loadu_si256(
              reinterpret_cast<const __m256i*>(strip.x[pixel] + args.tap_offset[t] + 4 * b));
        }
        transpose_8x8(rows);
        int32_t* out = inputs + (static_cast<ptrdiff_t>(t * blocks + b) * vectors + v) * kLanes;
        const int valid = blocks - b < kLanes ? blocks - b : kLanes;
        for (int i = 0; i < valid; ++i) _mm256_store_si256(vec(out + i * vectors * kLanes), rows[i]);
      }
    }
  }
}

[[gnu::always_inline]] inline __m256i products(const int32_t* x, __m256i w) {
  return _mm256_maddubs_epi16(_mm256_load_si256(vec(x)), w);
}

template <int V>
void accumulate(const SparseList& list, int channel, const int32_t* inputs, int32_t* sums) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i acc[V];
  for (int v = 0; v < V; ++v) acc[v] = _mm256_setzero_si256();
  const uint32_t* first = list.first + 2 * channel;
  uint32_t i = first[0];
  for (; i < first[1]; i += 2) {
    const int32_t* x0 = inputs + static_cast<ptrdiff_t>(list.block[i]) * (V * kLanes);
    const int32_t* x1 = inputs + static_cast<ptrdiff_t>(list.block[i + 1]) * (V * kLanes);
    const __m256i w0 = _mm256_set1_epi32(list.weights[i]), w1 = _mm256_set1_epi32(list.weights[i + 1]);
#pragma GCC unroll 5
    for (int v = 0; v < V; ++v) {
      const __m256i pairs = _mm256_add_epi16(products(x0 + v * kLanes, w0), products(x1 + v * kLanes, w1));
      acc[v] = _mm256_add_epi32(acc[v], _mm256_madd_epi16(pairs, ones));
    }
  }
  for (; i < first[2]; ++i) {
    const int32_t* x = inputs + static_cast<ptrdiff_t>(list.block[i]) * (V * kLanes);
    const __m256i w = _mm256_set1_epi32(list.weights[i]);
#pragma GCC unroll 5
    for (int v = 0; v < V; ++v)
      acc[v] = _mm256_add_epi32(acc[v], _mm256_madd_epi16(products(x + v * kLanes, w), ones));
  }
  for (int v = 0; v < V; ++v) _mm256_store_si256(vec(sums + v * kLanes), acc[v]);
}

// sums: 8 channels from `channel` on, `stride` entries apart, of 8 pixels each.
struct Corner {
  const int32_t* sums;
  ptrdiff_t stride;
  int channel, channels, pixels;
  const uint8_t* const* residual;
  uint8_t* const* y;
};

// Any output: transposed to pixels first.
void store_any(const Requantize& q, const Corner& c) {
  const __m256i init = _mm256_loadu_si256(vec(q.acc_init + c.channel));
  __m256i acc[kLanes];
  for (int i = 0; i < kLanes; ++i)
    acc[i] = i < c.channels ? _mm256_load_si256(vec(c.sums + i * c.stride)) : _mm256_setzero_si256();
  transpose_8x8(acc);
  for (int p = 0; p < c.pixels; ++p)
    requantize_store8(q, _mm256_add_epi32(acc[p], init), c.channel, c.channels, c.residual[p], c.y[p]);
}

// The residual's 8 channels of 8 pixels: of channel i, the bytes of the pixels are the low 8 of the result.
void transpose_residual(const Corner& c, __m128i (&bytes)[kLanes]) {
  __m128i pixel[kLanes];
  for (int p = 0; p < kLanes; ++p) {
    const uint8_t* r = c.residual[p < c.pixels ? p : 0] + c.channel;
    pixel[p] = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(r));
  }
  __m128i two[4], four[4];
  for (int i = 0; i < 4; ++i) two[i] = _mm_unpacklo_epi8(pixel[2 * i], pixel[2 * i + 1]);
  for (int i = 0; i < 2; ++i) {  // channels 0-3, then 4-7, of 4 pixels
    four[i] = _mm_unpacklo_epi16(two[2 * i], two[2 * i + 1]);
    four[2 + i] = _mm_unpackhi_epi16(two[2 * i], two[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i) {
    const __m128i low = _mm_unpacklo_epi32(four[2 * i], four[2 * i + 1]);
    const __m128i high = _mm_unpackhi_epi32(four[2 * i], four[2 * i + 1]);
    bytes[4 * i] = low;
    bytes[4 * i + 1] = _mm_srli_si128(low, 8);
    bytes[4 * i + 2] = high;
    bytes[4 * i + 3] = _mm_srli_si128(high, 8);
  }
}

// u8 output of 8 whole channels: bytes are transposed, a quarter of the work.
template <bool Residual>
void store_bytes(const Requantize& q, const Corner& c) {
  const __m256 hi = _mm256_set1_ps(q.hi);
  __m128i residual[kLanes];
  if (Residual) transpose_residual(c, residual);
  __m256i value[kLanes];
#pragma GCC unroll 8
  for (int i = 0; i < kLanes; ++i) {
    const int o = c.channel + i;
    const __m256i sum =
        _mm256_add_epi32(_mm256_load_si256(vec(c.sums + i * c.stride)), _mm256_set1_epi32(q.acc_init[o]));
    __m256 f = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(q.multiplier[o]),
                               _mm256_set1_ps(q.offset[o]));
    if (Residual)
      f = requantize_residual8(q, requantize_clamp8(f, q.lo, q.hi), residual[i]);
    else
      f = _mm256_min_ps(hi, f);
    value[i] = _mm256_cvtps_epi32(f);
  }
  // In each half 4 pixels: of 4 channels in a row, then 4 channels of a pixel in a row.
  const __m256i by_pixel = _mm256_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, 0, 4, 8, 12,
                                            1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m256i first = _mm256_shuffle_epi8(
      _mm256_packus_epi16(_mm256_packus_epi32(value[0], value[1]), _mm256_packus_epi32(value[2], value[3])),
      by_pixel);
  const __m256i second = _mm256_shuffle_epi8(
      _mm256_packus_epi16(_mm256_packus_epi32(value[4], value[5]), _mm256_packus_epi32(value[6], value[7])),
      by_pixel);
  const __m256i lo = _mm256_set1_epi8(static_cast<char>(static_cast<int>(Residual ? q.add_lo : q.lo)));
  alignas(32) uint64_t even[4], odd[4];  // pixels 0, 1, 4, 5 and 2, 3, 6, 7
  _mm256_store_si256(reinterpret_cast<__m256i*>(even),
                     _mm256_max_epu8(_mm256_unpacklo_epi32(first, second), lo));
  _mm256_store_si256(reinterpret_cast<__m256i*>(odd),
                     _mm256_max_epu8(_mm256_unpackhi_epi32(first, second), lo));
  for (int p = 0; p < c.pixels; ++p) {
    const uint64_t bytes = (p & 2 ? odd : even)[p / 4 * 2 + p % 2];
    __builtin_memcpy(c.y[p] + c.channel, &bytes, 8);
  }
}

template <int V>
void run_strip(const ConvInt8Args& args, const SparseList& list, const Strip& strip) {
  auto* inputs = static_cast<int32_t*>(args.scratch);
  const size_t blocks = static_cast<size_t>(args.taps) * ((args.k + 3) / 4);
  int32_t* sums = inputs + blocks * V * kLanes;
  transpose_inputs(args, strip, V, inputs);
  const auto store_whole = args.requantize.f32_output            ? store_any
                           : args.requantize.residual != nullptr ? store_bytes<true>
                                                                 : store_bytes<false>;
  for (int o = args.n_begin; o < args.n_end; o += kLanes) {
    const int channels = args.n_end - o < kLanes ? args.n_end - o : kLanes;
    for (int i = 0; i < channels; ++i) accumulate<V>(list, o + i, inputs, sums + i * V * kLanes);
    for (int v = 0; v < V && v * kLanes < strip.count; ++v) {
      const int pixel = v * kLanes, left = strip.count - pixel;
      const Corner corner = {
          sums + pixel,           V * kLanes,     o, channels, left < kLanes ? left : kLanes,
          strip.residual + pixel, strip.y + pixel};
      (channels == kLanes ? store_whole : store_any)(args.requantize, corner);
    }
  }
}

using StripFunction = void (*)(const ConvInt8Args&, const SparseList&, const Strip&);
constexpr StripFunction kStrips[conv_int8::kPairVectors] = {run_strip<1>, run_strip<2>, run_strip<3>,
                                                            run_strip<4>, run_strip<5>};

}  // namespace

void run_conv_int8_u8s8s32_block4_40x1__avx2(const ConvInt8Args& args) {
  const SparseList list = conv_int8::sparse_pairs(args.w, args.n);
  const int most = conv_int8::pair_vectors(args);
  int left = (args.rows * args.cols + kLanes - 1) / kLanes;  // vectors of pixels
  Strip strip;
  for (int row = 0, col = 0; left > 0;) {
    const int strips = (left + most - 1) / most, vectors = (left + strips - 1) / strips;
    fill_strip(args, vectors * kLanes, &row, &col, &strip);
    kStrips[vectors - 1](args, list, strip);
    left -= vectors;
  }
}

}  // namespace pyruntime
