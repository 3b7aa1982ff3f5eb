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

template <int V>
void run_strip(const ConvInt8Args& args, const SparseList& list, const Strip& strip) {
  auto* inputs = static_cast<int32_t*>(args.scratch);
  const size_t blocks = static_cast<size_t>(args.taps) * ((args.k + 3) / 4);
  int32_t* sums = inputs + blocks * V * kLanes;
  transpose_inputs(args, strip, V, inputs);
  for (int o = args.n_begin; o < args.n_end; o += kLanes) {
    const int channels = args.n_end - o < kLanes ? args.n_end - o : kLanes;
    const __m256i init = _mm256_loadu_si256(vec(args.requantize.acc_init + o));
    for (int i = 0; i < channels; ++i) accumulate<V>(list, o + i, inputs, sums + i * V * kLanes);
    for (int v = 0; v < V && v * kLanes < strip.count; ++v) {
      __m256i acc[kLanes];
      for (int i = 0; i < kLanes; ++i)
        acc[i] = i < channels ? _mm256_load_si256(vec(sums + (i * V + v) * kLanes)) : _mm256_setzero_si256();
      transpose_8x8(acc);
      const int left = strip.count - v * kLanes;
      const int pixels = left < kLanes ? left : kLanes;
      for (int p = 0; p < pixels; ++p) {
        const int pixel = v * kLanes + p;
        requantize_store8(args.requantize, _mm256_add_epi32(acc[p], init), o, channels, strip.residual[pixel],
                          strip.y[pixel]);
      }
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
