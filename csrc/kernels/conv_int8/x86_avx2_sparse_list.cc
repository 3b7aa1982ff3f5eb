// 1x4-block weights for many pixels (sparse_list.h, packing block4_pairs): as the AVX-512 form with 8 pixels
// a vector and vpmaddubsw + vpmaddwd in place of vpdpbusd; the packing keeps every pair sum exact.
#include <immintrin.h>

#include "kernels/conv_int8/sparse_list.h"
#include "kernels/conv_int8/sparse_pixel.h"
#include "kernels/requantize_avx2.h"
#include "kernels/transpose_avx2.h"

namespace pyruntime {
namespace {

using conv_int8::SparseList;

constexpr int kLanes = 8;
constexpr int kInputBytes = 24 * 1024;

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

template <int V>
void accumulate(const SparseList& list, int channel, const int32_t* inputs, int32_t* sums) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i acc[V];
  for (int v = 0; v < V; ++v) acc[v] = _mm256_setzero_si256();
  for (uint32_t i = list.first[channel]; i < list.first[channel + 1]; ++i) {
    const int32_t* x = inputs + static_cast<ptrdiff_t>(list.block[i]) * (V * kLanes);
    const __m256i w = _mm256_set1_epi32(list.weights[i]);
    for (int v = 0; v < V; ++v) {
      const __m256i pairs = _mm256_maddubs_epi16(_mm256_load_si256(vec(x + v * kLanes)), w);
      acc[v] = _mm256_add_epi32(acc[v], _mm256_madd_epi16(pairs, ones));
    }
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

// u8 output of 8 whole channels without residual: bytes are transposed, a quarter of the work.
void store_bytes(const Requantize& q, const Corner& c) {
  const __m256 hi = _mm256_set1_ps(q.hi);
  __m256i value[kLanes];
#pragma GCC unroll 8
  for (int i = 0; i < kLanes; ++i) {
    const int o = c.channel + i;
    const __m256i sum =
        _mm256_add_epi32(_mm256_load_si256(vec(c.sums + i * c.stride)), _mm256_set1_epi32(q.acc_init[o]));
    const __m256 f = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(q.multiplier[o]),
                                     _mm256_set1_ps(q.offset[o]));
    value[i] = _mm256_cvtps_epi32(_mm256_min_ps(hi, f));
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
  const __m256i lo = _mm256_set1_epi8(static_cast<char>(static_cast<int>(q.lo)));
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
  const bool plain = !args.requantize.f32_output && args.requantize.residual == nullptr;
  for (int o = args.n_begin; o < args.n_end; o += kLanes) {
    const int channels = args.n_end - o < kLanes ? args.n_end - o : kLanes;
    for (int i = 0; i < channels; ++i) accumulate<V>(list, o + i, inputs, sums + i * V * kLanes);
    for (int v = 0; v < V && v * kLanes < strip.count; ++v) {
      const int pixel = v * kLanes, left = strip.count - pixel;
      const Corner corner = {
          sums + pixel,           V * kLanes,     o, channels, left < kLanes ? left : kLanes,
          strip.residual + pixel, strip.y + pixel};
      (plain && channels == kLanes ? store_bytes : store_any)(args.requantize, corner);
    }
  }
}

}  // namespace

void run_conv_int8_u8s8s32_block4_32x1__avx2(const ConvInt8Args& args) {
  const SparseList list = conv_int8::sparse_list(args.w, args.n);
  const int vectors = conv_int8::pixel_vectors(args, kLanes, kInputBytes);
  Strip strip;
  for (int row = 0, col = 0; row < args.rows;) {
    fill_strip(args, vectors * kLanes, &row, &col, &strip);
    if (strip.count > 2 * kLanes)
      run_strip<4>(args, list, strip);
    else if (strip.count > kLanes)
      run_strip<2>(args, list, strip);
    else
      run_strip<1>(args, list, strip);
  }
}

}  // namespace pyruntime
