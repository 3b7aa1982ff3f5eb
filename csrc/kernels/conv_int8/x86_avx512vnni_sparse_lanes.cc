// Sparse weights for few pixels: sparse_lanes.h has the layout. Per slot: one permutation of two input
// registers by the index bytes (vpermi2d for 1x4 blocks, vpermi2b for single weights), one vpdpbusd with 64
// weight bytes. No gather: a 16-lane vpgatherdd costs 20 cycles on Zen 4, the permutation 1.
#include <immintrin.h>

#include "kernels/conv_int8/sparse_lanes.h"
#include "kernels/conv_int8/sparse_pixel.h"
#include "kernels/requantize_avx512.h"

namespace pyruntime {
namespace {

using conv_int8::kLanes;
using conv_int8::kWindowBytes;
using conv_int8::SparseLanesGroup;
using conv_int8::SparseLanesHeader;

struct Block4 {
  static constexpr int kIndexBytes = 1;
  static __m512i inputs(__m512i lo, __m512i hi, const uint8_t* index) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(index));
    return _mm512_permutex2var_epi32(lo, _mm512_cvtepu8_epi32(bytes), hi);
  }
};

struct Bitmask {
  static constexpr int kIndexBytes = 4;
  static __m512i inputs(__m512i lo, __m512i hi, const uint8_t* index) {
    return _mm512_permutex2var_epi8(lo, _mm512_loadu_si512(index), hi);
  }
};

// Sum of products of one group of 16 channels.
template <typename Format>
__m512i accumulate(const uint8_t* inputs, const uint16_t* run, const uint8_t* index, const int8_t* w) {
  __m512i even = _mm512_setzero_si512(), odd = _mm512_setzero_si512();
  for (int slots = *run++; slots != 0; slots = *run++) {
    for (int windows = *run++; windows > 0; --windows) {
      const uint8_t* x = inputs + static_cast<ptrdiff_t>(*run++) * kWindowBytes;
      const __m512i lo = _mm512_loadu_si512(x), hi = _mm512_loadu_si512(x + 64);
      int s = 0;
      for (; s + 2 <= slots; s += 2) {
        const __m512i x0 = Format::inputs(lo, hi, index);
        const __m512i x1 = Format::inputs(lo, hi, index + kLanes * Format::kIndexBytes);
        even = _mm512_dpbusd_epi32(even, x0, _mm512_loadu_si512(w));
        odd = _mm512_dpbusd_epi32(odd, x1, _mm512_loadu_si512(w + 64));
        index += 2 * kLanes * Format::kIndexBytes;
        w += 128;
      }
      if (s < slots) {
        even = _mm512_dpbusd_epi32(even, Format::inputs(lo, hi, index), _mm512_loadu_si512(w));
        index += kLanes * Format::kIndexBytes;
        w += 64;
      }
    }
  }
  return _mm512_add_epi32(even, odd);
}

template <typename Format>
void run_lanes(const ConvInt8Args& args) {
  const auto* base = static_cast<const uint8_t*>(args.w);
  const auto& header = *static_cast<const SparseLanesHeader*>(args.w);
  const auto* groups = reinterpret_cast<const SparseLanesGroup*>(base + sizeof(SparseLanesHeader));
  const auto* runs = reinterpret_cast<const uint16_t*>(base + header.runs_offset);
  auto* inputs = static_cast<uint8_t*>(args.scratch);
  for (int row = 0; row < args.rows; ++row) {
    for (int col = 0; col < args.cols; ++col) {
      gather_taps(args, pixel_x(args, row, col), header.tap_bytes, header.input_bytes, inputs);
      const uint8_t* residual = pixel_residual(args.requantize, row, col);
      uint8_t* y = pixel_y(args, row, col);
      for (int o = args.n_begin; o < args.n_end; o += kLanes) {
        const SparseLanesGroup& group = groups[o / kLanes];
        const uint64_t lane = static_cast<uint64_t>(group.slot) * kLanes;
        const __m512i acc = accumulate<Format>(
            inputs, runs + group.run, base + header.index_offset + lane * Format::kIndexBytes,
            reinterpret_cast<const int8_t*>(base + header.weights_offset + lane * 4));
        const __m512i init = _mm512_loadu_si512(args.requantize.acc_init + o);
        requantize_store16(args.requantize, _mm512_add_epi32(acc, init), o, args.n_end - o, residual, y);
      }
    }
  }
}

}  // namespace

void run_conv_int8_u8s8s32_block4_1x16__avx512vnni(const ConvInt8Args& args) { run_lanes<Block4>(args); }
void run_conv_int8_u8s8s32_bitmask_1x16__avx512vnni(const ConvInt8Args& args) { run_lanes<Bitmask>(args); }

}  // namespace pyruntime
