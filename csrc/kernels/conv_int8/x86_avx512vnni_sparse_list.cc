// 1x4-block weights for many pixels (sparse_list.h): inputs of up to 4 x 16 pixels are transposed into
// scratch[block][pixel] dwords, then each output channel walks its own list of blocks.
#include <immintrin.h>

#include "kernels/conv_int8/sparse_list.h"
#include "kernels/conv_int8/sparse_pixel.h"
#include "kernels/requantize_avx512.h"
#include "kernels/transpose_avx512.h"

namespace pyruntime {
namespace {

using conv_int8::SparseList;

constexpr int kLanes = 16;
// Inputs of a strip: L2 feeds one vector a cycle, so 4 pixel vectors pay even where they overflow a 32 KB L1.
constexpr int kInputBytes = 64 * 1024;

// inputs[tap * blocks + channel / 4][pixel] = 4 channels of a pixel; pixels beyond the strip repeat its last
// one.
void transpose_inputs(const ConvInt8Args& args, const Strip& strip, int vectors, int32_t* inputs) {
  const int blocks = (args.k + 3) / 4;
  for (int t = 0; t < args.taps; ++t) {
    for (int v = 0; v < vectors; ++v) {
      for (int b = 0; b < blocks; b += kLanes) {
        __m512i rows[kLanes];
        for (int i = 0; i < kLanes; ++i) {
          const int pixel = v * kLanes + i < strip.count ? v * kLanes + i : strip.count - 1;
          rows[i] = _mm512_loadu_si512(strip.x[pixel] + args.tap_offset[t] + 4 * b);
        }
        transpose_16x16(rows);
        int32_t* out = inputs + (static_cast<ptrdiff_t>(t * blocks + b) * vectors + v) * kLanes;
        // The last group of a tap spills into rows that the next tap, or nobody, owns: stop at the end.
        const int valid = blocks - b < kLanes ? blocks - b : kLanes;
        for (int i = 0; i < valid; ++i) _mm512_store_si512(out + i * vectors * kLanes, rows[i]);
      }
    }
  }
}

// Sums of one output channel for V pixel vectors. With few vectors the list is unrolled so that four chains
// of vpdpbusd are in flight.
template <int V>
void accumulate(const SparseList& list, int channel, const int32_t* inputs, int32_t* sums) {
  constexpr int kUnroll = 4 / V;
  __m512i acc[kUnroll][V];
  for (int u = 0; u < kUnroll; ++u)
    for (int v = 0; v < V; ++v) acc[u][v] = _mm512_setzero_si512();
  uint32_t i = list.first[channel];
  const uint32_t end = list.first[channel + 1];
  for (; i + kUnroll <= end; i += kUnroll) {
    for (int u = 0; u < kUnroll; ++u) {
      const int32_t* x = inputs + static_cast<ptrdiff_t>(list.block[i + u]) * (V * kLanes);
      const __m512i w = _mm512_set1_epi32(list.weights[i + u]);
      for (int v = 0; v < V; ++v)
        acc[u][v] = _mm512_dpbusd_epi32(acc[u][v], _mm512_load_si512(x + v * kLanes), w);
    }
  }
  for (; i < end; ++i) {
    const int32_t* x = inputs + static_cast<ptrdiff_t>(list.block[i]) * (V * kLanes);
    const __m512i w = _mm512_set1_epi32(list.weights[i]);
    for (int v = 0; v < V; ++v)
      acc[0][v] = _mm512_dpbusd_epi32(acc[0][v], _mm512_load_si512(x + v * kLanes), w);
  }
  for (int v = 0; v < V; ++v) {
    __m512i sum = acc[0][v];
    for (int u = 1; u < kUnroll; ++u) sum = _mm512_add_epi32(sum, acc[u][v]);
    _mm512_store_si512(sums + v * kLanes, sum);
  }
}

template <int V>
void run_strip(const ConvInt8Args& args, const SparseList& list, const Strip& strip) {
  auto* inputs = static_cast<int32_t*>(args.scratch);
  const size_t blocks = static_cast<size_t>(args.taps) * ((args.k + 3) / 4);
  int32_t* sums = inputs + blocks * V * kLanes;
  transpose_inputs(args, strip, V, inputs);
  for (int o = args.n_begin; o < args.n_end; o += kLanes) {
    const int channels = args.n_end - o < kLanes ? args.n_end - o : kLanes;
    const __m512i init = _mm512_loadu_si512(args.requantize.acc_init + o);
    for (int i = 0; i < channels; ++i) accumulate<V>(list, o + i, inputs, sums + i * V * kLanes);
    for (int v = 0; v < V && v * kLanes < strip.count; ++v) {
      __m512i acc[kLanes];
      for (int i = 0; i < kLanes; ++i)
        acc[i] = i < channels ? _mm512_load_si512(sums + (i * V + v) * kLanes) : _mm512_setzero_si512();
      transpose_16x16(acc);
      const int left = strip.count - v * kLanes;
      const int pixels = left < kLanes ? left : kLanes;
      for (int p = 0; p < pixels; ++p) {
        const int pixel = v * kLanes + p;
        requantize_store16(args.requantize, _mm512_add_epi32(acc[p], init), o, channels,
                           strip.residual[pixel], strip.y[pixel]);
      }
    }
  }
}

}  // namespace

void run_conv_int8_u8s8s32_block4_64x1__avx512vnni(const ConvInt8Args& args) {
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
