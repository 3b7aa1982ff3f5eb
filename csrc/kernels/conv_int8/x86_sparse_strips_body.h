// 1x4-block weights for many pixels on vectors of 32 bytes, AVX2 and AVX-VNNI: inputs of some vectors of 8
// pixels are transposed into vectors of 8 pixels of one block; a channel then runs over its blocks, one
// product per block and vector. u8 results become bytes in registers, 32 pixels of a channel at a time, and
// are then transposed to 8 channels of a pixel.
#pragma once

#include <immintrin.h>

#include "base/transpose_avx2.h"
#include "kernels/conv_int8/sparse_list.h"
#include "kernels/conv_int8/sparse_pixel.h"
#include "kernels/requantize_avx2.h"

namespace pyruntime {
namespace {

using conv_int8::SparseList;

constexpr int kLanes = conv_int8::kStripLanes;

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

// Adds the products of one channel to V vectors of pixels, of inputs [blocks][V][8]. The source that includes
// this defines it.
template <int V>
void accumulate(const SparseList& list, int channel, const int32_t* inputs, __m256i (&acc)[V]);

constexpr int kFour = 4;  // vectors of pixels whose results are one vector of bytes
constexpr int kFourPixels = kFour * kLanes;

// One channel for V vectors of pixels. What is stored at `out` are the sums [V][8]; or, for u8 output, bytes,
// 32 for every four vectors: dwords of 4 pixels, of the lower halves of the vectors, then of the upper ones.
template <int V, bool kBytes>
[[gnu::always_inline]] inline void run_channel(const Requantize& q, const SparseList& list, int channel,
                                               const int32_t* inputs, int32_t* out) {
  __m256i acc[V];
#pragma GCC unroll 12
  for (int v = 0; v < V; ++v) acc[v] = _mm256_set1_epi32(q.acc_init[channel]);
  accumulate<V>(list, channel, inputs, acc);
  if (!kBytes) {
#pragma GCC unroll 12
    for (int v = 0; v < V; ++v) _mm256_store_si256(vec(out + v * kLanes), acc[v]);
    return;
  }
  const __m256 multiplier = _mm256_set1_ps(q.multiplier[channel]), hi = _mm256_set1_ps(q.hi);
  const __m256 offset = _mm256_set1_ps(q.offset[channel]);
  const __m256i lo = _mm256_set1_epi8(static_cast<char>(static_cast<int>(q.lo)));
#pragma GCC unroll 12
  for (int v = 0; v < V; ++v) {
    const __m256 f = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc[v]), multiplier, offset);
    acc[v] = _mm256_cvtps_epi32(_mm256_min_ps(hi, f));
  }
#pragma GCC unroll 3
  for (int v = 0; v < V; v += kFour) {
    const int second = v + 1 < V ? v + 1 : v, third = v + 2 < V ? v + 2 : v, fourth = v + 3 < V ? v + 3 : v;
    const __m256i words[2] = {_mm256_packus_epi32(acc[v], acc[second]),
                              _mm256_packus_epi32(acc[third], acc[fourth])};
    _mm256_store_si256(vec(out + v * kLanes / 4),
                       _mm256_max_epu8(_mm256_packus_epi16(words[0], words[1]), lo));
  }
}

template <int V, bool kBytes>
[[gnu::noinline]] void run_channels(const Requantize& q, const SparseList& list, int channel, int channels,
                                    const int32_t* inputs, int32_t* out) {
  const SparseList own = list;  // stores would have its members loaded again
  for (int i = 0; i < channels; ++i)
    run_channel<V, kBytes>(q, own, channel + i, inputs, out + i * V * kLanes);
}

// Results of 8 channels from `channel` on, `stride` dwords apart, of some pixels.
struct Results {
  const int32_t* values;
  ptrdiff_t stride;
  int channel, channels, pixels;
  const uint8_t* const* residual;
  uint8_t* const* y;
};

// Sums of a vector of pixels, for any output: transposed to pixels first.
void store_sums(const Requantize& q, const Results& r) {
  __m256i acc[kLanes];
  for (int i = 0; i < kLanes; ++i)
    acc[i] = i < r.channels ? _mm256_load_si256(vec(r.values + i * r.stride)) : _mm256_setzero_si256();
  transpose_8x8(acc);
  for (int p = 0; p < r.pixels; ++p)
    requantize_store8(q, acc[p], r.channel, r.channels, r.residual[p], r.y[p]);
}

// Bytes of four vectors of pixels: transposed to 8 channels of each pixel, which stand in the order of
// pixel_place.
void transpose_bytes(const Results& r, uint64_t* pixels) {
  __m256i c[kLanes], two[kLanes], four[kLanes];
#pragma GCC unroll 8
  for (int i = 0; i < kLanes; ++i) c[i] = _mm256_load_si256(vec(r.values + i * r.stride));
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // pixels 0-7, then 8-15, of two channels
    two[i] = _mm256_unpacklo_epi8(c[2 * i], c[2 * i + 1]);
    two[4 + i] = _mm256_unpackhi_epi8(c[2 * i], c[2 * i + 1]);
  }
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {  // of four channels, 0-3 and 4-7
      const __m256i a = two[4 * half + 2 * i], b = two[4 * half + 2 * i + 1];
      four[4 * half + i] = _mm256_unpacklo_epi16(a, b);
      four[4 * half + 2 + i] = _mm256_unpackhi_epi16(a, b);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    auto* out = reinterpret_cast<__m256i*>(pixels) + 2 * i;
    _mm256_store_si256(out, _mm256_unpacklo_epi32(four[2 * i], four[2 * i + 1]));
    _mm256_store_si256(out + 1, _mm256_unpackhi_epi32(four[2 * i], four[2 * i + 1]));
  }
}

// Where pixel p of 32 stands: a vector holds pixels 8 i + 2 j and the next in its lower half, and in its
// upper half those 4 further on.
[[gnu::always_inline]] inline int pixel_place(int p) {
  return p / 8 * 8 + p / 2 % 2 * 4 + p / 4 % 2 * 2 + p % 2;
}

template <bool kResidual>
void store_bytes(const Requantize& q, const Results& r) {
  alignas(32) uint64_t pixels[kFourPixels];
  transpose_bytes(r, pixels);
#pragma GCC unroll 8
  for (int p = 0; p < r.pixels; ++p) {
    uint64_t bytes = pixels[pixel_place(p)];
    if (kResidual) {
      const __m256i own = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(bytes)));
      const __m128i other = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(r.residual[p] + r.channel));
      const __m256i sum = _mm256_cvtps_epi32(requantize_residual8(q, _mm256_cvtepi32_ps(own), other));
      bytes = static_cast<uint64_t>(_mm_cvtsi128_si64(requantize_pack8(sum)));
    }
    __builtin_memcpy(r.y[p] + r.channel, &bytes, 8);
  }
}

template <int V>
void run_strip(const ConvInt8Args& args, const SparseList& list, const Strip& strip) {
  const Requantize& q = args.requantize;
  auto* inputs = static_cast<int32_t*>(args.scratch);
  const size_t blocks = static_cast<size_t>(args.taps) * ((args.k + 3) / 4);
  int32_t* values = inputs + blocks * V * kLanes;
  transpose_inputs(args, strip, V, inputs);
  for (int o = args.n_begin; o < args.n_end; o += kLanes) {
    const int channels = args.n_end - o < kLanes ? args.n_end - o : kLanes;
    const bool bytes = channels == kLanes && !q.f32_output;
    const auto store = !bytes ? store_sums : q.residual != nullptr ? store_bytes<true> : store_bytes<false>;
    const int together = bytes ? kFourPixels : kLanes;
    (bytes ? run_channels<V, true> : run_channels<V, false>)(q, list, o, channels, inputs, values);
    for (int p = 0; p < strip.count; p += together) {
      const int left = strip.count - p;
      const int32_t* first = values + (bytes ? p / 4 : p);
      store(q, {first, V * kLanes, o, channels, left < together ? left : together, strip.residual + p,
                strip.y + p});
    }
  }
}

using StripFunction = void (*)(const ConvInt8Args&, const SparseList&, const Strip&);

// strips_of[v - 1] runs v vectors of pixels; up to `most` are processed together.
void run_strips(const ConvInt8Args& args, const SparseList& list, const StripFunction* strips_of, int most) {
  int left = (args.rows * args.cols + kLanes - 1) / kLanes;  // vectors of pixels
  Strip strip;
  for (int row = 0, col = 0; left > 0;) {
    const int strips = (left + most - 1) / most, vectors = (left + strips - 1) / strips;
    fill_strip(args, vectors * kLanes, &row, &col, &strip);
    strips_of[vectors - 1](args, list, strip);
    left -= vectors;
  }
}

}  // namespace
}  // namespace pyruntime
