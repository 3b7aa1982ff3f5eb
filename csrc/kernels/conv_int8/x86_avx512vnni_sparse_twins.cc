// 1x4-block weights for many pixels (sparse_twins.h): inputs of up to 7 vectors of 16 pixels are transposed
// into scratch as dwords, one block of 4 channels of a pixel each, then each output channel walks its own
// list of blocks. A block takes a load of its number and of its place, a broadcast of its weights, and a load
// and a VPDPBUSD per pixel vector: the more vectors, the less the others weigh on the two loads a cycle.
//
// The sums of four channels, two pairs of lists, become bytes in registers: dwords of 16 pixels, of which
// four vectors, transposed within 128-bit lanes, are 16 channels of 16 pixels in the order of their lists.
#include <immintrin.h>

#include "kernels/conv_int8/epilogue_avx512.h"
#include "kernels/conv_int8/sparse_pixel.h"
#include "kernels/conv_int8/sparse_twins.h"
#include "kernels/conv_int8/twin_window.h"
#include "kernels/requantize_avx512.h"
#include "kernels/transpose_avx512.h"

namespace pyruntime {
namespace {

using conv_int8::kTwinVectors;
using conv_int8::SparseTwins;
using conv_int8::TwinStep;
using conv_int8::TwinWindow;

constexpr int kLanes = conv_int8::kTwinPixels, kGroup = conv_int8::kTwinGroup;
constexpr uint32_t kVector = 64;  // bytes
constexpr int kFour = 4;          // channels whose sums are in registers
constexpr int kLine = 64;         // channels that are stored together

// 16 bytes at `offset` of 16 pixels: dword i of all of them in out[i].
[[gnu::always_inline]] inline void load_dwords(const uint8_t* const* pixel, ptrdiff_t offset, __m512i* out) {
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j)
    out[j] =
        load_lanes(pixel[j] + offset, pixel[4 + j] + offset, pixel[8 + j] + offset, pixel[12 + j] + offset);
  transpose_4x4(out);
}

// Blocks of 4 channels of 16 pixels, from `offset` bytes on: block b to out + b * stride.
void transpose_blocks(const uint8_t* const* pixel, ptrdiff_t offset, int blocks, ptrdiff_t stride,
                      int32_t* out) {
  for (int b = 0; b < blocks; b += 4) {
    __m512i dwords[4];
    load_dwords(pixel, offset + 4 * b, dwords);
    const int valid = blocks - b < 4 ? blocks - b : 4;
    for (int i = 0; i < valid; ++i) _mm512_store_si512(out + (b + i) * stride, dwords[i]);
  }
}

// Output pixels of a strip, and the transposed inputs: those of block b begin at byte place[b] in a shared
// window, at inputs[b * pixels of the strip] without.
struct TwinStrip {
  const uint8_t* residual[kTwinVectors * kLanes];
  uint8_t* y[kTwinVectors * kLanes];
  const int32_t* inputs;
  const uint32_t* place;
};

// What the channels of a strip share.
struct TwinRun {
  const ConvInt8Args* args;
  const SparseTwins* twins;
  const TwinStrip* strip;
  int32_t* sums;   // [channels, or 16 where there is one chunk][pixels of the strip]
  uint8_t* bytes;  // [fours of a line][vectors][64]
  bool general;
};

// Adds the products of lists 2 * pair and the next, for V pixel vectors.
template <int V, bool kShared>
[[gnu::always_inline]] inline void walk_pair(const SparseTwins& twins, int pair, const TwinStrip& strip,
                                             __m512i (&acc)[kFour][V], int channel) {
  const auto* inputs = reinterpret_cast<const uint8_t*>(strip.inputs);
  const TwinStep* const end = twins.steps + twins.first[pair + 1];
  for (const TwinStep* step = twins.steps + twins.first[pair]; step != end; ++step) {
#pragma GCC unroll 2
    for (int c = 0; c < 2; ++c) {
      const uint32_t block = c == 0 ? step->blocks & 0xffff : step->blocks >> 16;
      const uint8_t* x = inputs + (kShared ? strip.place[block] : block * (V * kVector));
      const __m512i weights = _mm512_set1_epi32(step->weights[c]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v)
        acc[channel + c][v] =
            _mm512_dpbusd_epi32(acc[channel + c][v], _mm512_load_si512(x + v * kVector), weights);
    }
  }
}

// Four channels of list `list` on, of the group whose first channel is `group`. Ends in sums, [channel of the
// group][pixels of the strip], or in bytes, [vectors][64].
template <int V, bool kShared>
[[gnu::noinline]] void run_four(const TwinRun& run, int list, int group, bool first, bool last, int32_t* sums,
                                uint8_t* bytes) {
  const SparseTwins& twins = *run.twins;
  const Requantize& q = run.args->requantize;
  const uint8_t* channel = twins.channel + list;
  __m512i acc[kFour][V];
#pragma GCC unroll 4
  for (int c = 0; c < kFour; ++c) {
    const int32_t* from = sums + channel[c] * (V * kLanes);
    const __m512i init = _mm512_set1_epi32(q.acc_init[group + channel[c]]);
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[c][v] = first ? init : _mm512_load_si512(from + v * kLanes);
  }
  walk_pair<V, kShared>(twins, list / 2, *run.strip, acc, 0);
  walk_pair<V, kShared>(twins, list / 2 + 1, *run.strip, acc, 2);
  if (!last || run.general) {
#pragma GCC unroll 4
    for (int c = 0; c < kFour; ++c) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v)
        _mm512_store_si512(sums + channel[c] * (V * kLanes) + v * kLanes, acc[c][v]);
    }
    return;
  }
#pragma GCC unroll 4
  for (int c = 0; c < kFour; ++c) {
    const __m512 multiplier = _mm512_set1_ps(q.multiplier[group + channel[c]]);
    const __m512 offset = _mm512_set1_ps(q.offset[group + channel[c]]);
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v)
      acc[c][v] = _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[c][v]), multiplier, offset));
  }
  // Dword p of every 128-bit lane: bytes p of its dwords, which are four channels.
  const __m512i by_pixel = _mm512_set4_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400);
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) {
    const __m512i packed = _mm512_packus_epi16(_mm512_packs_epi32(acc[0][v], acc[1][v]),
                                               _mm512_packs_epi32(acc[2][v], acc[3][v]));
    _mm512_store_si512(bytes + v * 64, _mm512_shuffle_epi8(packed, by_pixel));
  }
}

// Adds the residuals of 64 channels of a pixel.
template <bool kPlain>
[[gnu::always_inline]] inline __m512i add_residual(const RequantizeVectors& constants,
                                                   const uint8_t* residual, __mmask64 mask, __m512i bytes) {
  const __m512i other = kPlain ? _mm512_loadu_si512(residual) : _mm512_maskz_loadu_epi8(mask, residual);
  const __m512i sum = requantize_add_bytes(constants, bytes, other);
  return kPlain ? sum : _mm512_min_epu8(_mm512_max_epu8(sum, constants.lowest), constants.highest);
}

// Up to 64 channels of 16 pixels.
struct Results {
  const uint8_t* bytes;  // [fours][stride]: dwords of 16 pixels, rounded values within a byte
  ptrdiff_t stride;
  const uint8_t* position;         // [channels], within their group
  int channel, channels;           // the first; how many of them
  const uint8_t* const* residual;  // of 16 pixels
  uint8_t* const* y;
};

// Whole cache lines: pixels lie as far apart as they have channels, often a power of two, and 16 bytes at a
// time their lines would leave L1 in between. kPlain: all 64 channels, and the bounds are those of a byte.
template <bool kResidual, bool kPlain>
void store_u8(const Requantize& q, const RequantizeVectors& constants, const Results& given) {
  const Results r = given;  // stores of bytes would have members loaded again
  const int groups = kPlain ? kLine / kGroup : (r.channels + kGroup - 1) / kGroup;
  const __mmask64 mask = _bzhi_u64(~0ull, static_cast<unsigned>(r.channels));
  const __m512i lo = _mm512_set1_epi8(static_cast<char>(static_cast<int>(q.lo)));
  const __m512i hi = _mm512_set1_epi8(static_cast<char>(static_cast<int>(q.hi)));
  __m512i quad[4][4];  // [p][group]: lane l has 16 channels of pixel 4 l + p
#pragma GCC unroll 4
  for (int g = 0; g < kLine / kGroup; ++g) {
    __m512i four[4] = {};
    if (g < groups) {
      const __m512i order =
          _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(r.position + kGroup * g)));
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) four[i] = _mm512_load_si512(r.bytes + (4 * g + i) * r.stride);
      transpose_4x4(four);
#pragma GCC unroll 4
      for (int p = 0; p < 4; ++p) four[p] = _mm512_shuffle_epi8(four[p], order);
    }
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) quad[p][g] = four[p];
  }
#pragma GCC unroll 4
  for (int p = 0; p < 4; ++p) {
    transpose_lanes(quad[p]);
#pragma GCC unroll 4
    for (int l = 0; l < 4; ++l) {
      const int pixel = 4 * l + p;
      __m512i value = quad[p][l];
      if (!kPlain) value = _mm512_min_epu8(_mm512_max_epu8(value, lo), hi);
      if (kResidual) value = add_residual<kPlain>(constants, r.residual[pixel] + r.channel, mask, value);
      if (kPlain)
        _mm512_storeu_si512(r.y[pixel] + r.channel, value);
      else
        _mm512_mask_storeu_epi8(r.y[pixel] + r.channel, mask, value);
    }
  }
}

// `sums`: [16 channels][stride], 16 pixels of each.
[[gnu::noinline]] void store_general(const Requantize& q, const int32_t* sums, ptrdiff_t stride, int channel,
                                     int channels, const uint8_t* const* residual, uint8_t* const* y) {
  __m512i acc[kLanes];
  for (int i = 0; i < kLanes; ++i) acc[i] = _mm512_load_si512(sums + i * stride);
  transpose_16x16(acc);
  for (int p = 0; p < kLanes; ++p)
    requantize_store16(q, acc[p], channel, channels, q.residual == nullptr ? nullptr : residual[p], y[p]);
}

bool whole_bytes(const Requantize& q) {
  return q.lo <= 0.0f && q.hi >= 255.0f && (q.residual == nullptr || requantize_whole_range(q));
}

// The channels from `line` on, whose bytes are there.
template <int V>
void store_line(const TwinRun& run, const RequantizeVectors& constants, bool whole, int line, int list) {
  const Requantize& q = run.args->requantize;
  Results r;
  r.stride = V * 64;
  r.position = run.twins->position + list;
  r.channel = line;
  r.channels = run.args->n_end - line < kLine ? run.args->n_end - line : kLine;
  const bool plain = whole && r.channels == kLine;
  for (int v = 0; v < V; ++v) {
    r.bytes = run.bytes + v * 64;
    r.residual = run.strip->residual + v * kLanes;
    r.y = run.strip->y + v * kLanes;
    if (q.residual != nullptr)
      plain ? store_u8<true, true>(q, constants, r) : store_u8<true, false>(q, constants, r);
    else
      plain ? store_u8<false, true>(q, constants, r) : store_u8<false, false>(q, constants, r);
  }
}

template <int V, bool kShared>
void run_strip(const TwinRun& run) {
  const ConvInt8Args& args = *run.args;
  const RequantizeVectors constants = requantize_vectors(args.requantize);
  const bool whole = whole_bytes(args.requantize);
  for (int chunk = 0; chunk < run.twins->chunks; ++chunk) {
    const bool first = chunk == 0, last = chunk + 1 == run.twins->chunks;
    for (int group = args.n_begin; group < args.n_end; group += kGroup) {
      const int list = chunk * run.twins->groups * kGroup + group;
      const int in_line = (group - args.n_begin) % kLine;  // channels
      uint8_t* bytes = run.bytes + in_line * (V * kLanes);
      int32_t* sums = run.sums;
      if (run.twins->chunks > 1) sums += static_cast<ptrdiff_t>(group - args.n_begin) * (V * kLanes);
      for (int i = 0; i < kGroup; i += kFour)
        run_four<V, kShared>(run, list + i, group, first, last, sums, bytes + i * (V * kLanes));
      if (!last) continue;
      const int left = args.n_end - group;
      if (run.general) {
        for (int v = 0; v < V; ++v)
          store_general(args.requantize, sums + v * kLanes, V * kLanes, group, left < kGroup ? left : kGroup,
                        run.strip->residual + v * kLanes, run.strip->y + v * kLanes);
      } else if (in_line + kGroup == kLine || left <= kGroup) {
        store_line<V>(run, constants, whole, group - in_line, list - in_line);
      }
    }
  }
}

using StripFunction = void (*)(const TwinRun&);
template <bool kShared>
constexpr StripFunction kStrips[kTwinVectors] = {
    run_strip<1, kShared>, run_strip<2, kShared>, run_strip<3, kShared>, run_strip<4, kShared>,
    run_strip<5, kShared>, run_strip<6, kShared>, run_strip<7, kShared>};

// Where the strips of a call begin: of `vectors`, in nearly equal parts.
int strip_begin(int vectors, int strips, int s) {
  return static_cast<int>(static_cast<int64_t>(vectors) * s / strips);
}

// Pixels one after the other, every tap with inputs of its own.
void run_pixels(const ConvInt8Args& args, TwinStrip* strip, const TwinRun& run, int32_t* inputs,
                uint8_t* nowhere) {
  const Requantize& q = args.requantize;
  const int blocks = (args.k + 3) / 4, pixels = args.rows * args.cols;
  const int vectors = (pixels + kLanes - 1) / kLanes, strips = conv_int8::twin_strips(vectors);
  const uint8_t *from = args.x, *residual = q.residual;
  auto* y = static_cast<uint8_t*>(args.y);
  int row = 0, col = 0, pixel = 0;
  for (int s = 0; s < strips; ++s) {
    const int width = strip_begin(vectors, strips, s + 1) - strip_begin(vectors, strips, s);
    const uint8_t* x[kTwinVectors * kLanes];
    for (int i = 0; i < width * kLanes; ++i, ++pixel) {
      x[i] = from;
      strip->residual[i] = residual;
      strip->y[i] = pixel < pixels ? y : nowhere;
      if (pixel + 1 >= pixels) continue;
      if (++col == args.cols) {
        col = 0;
        ++row;
        from = pixel_x(args, row, 0);
        residual = pixel_residual(q, row, 0);
        y = pixel_y(args, row, 0);
      } else {
        from += args.x_col_stride;
        residual += q.residual_col_stride;
        y += args.y_col_stride;
      }
    }
    for (int t = 0; t < args.taps; ++t) {
      for (int v = 0; v < width; ++v)
        transpose_blocks(x + v * kLanes, args.tap_offset[t], blocks, width * kLanes,
                         inputs + (static_cast<ptrdiff_t>(t) * blocks * width + v) * kLanes);
    }
    kStrips<false>[width - 1](run);
  }
}

// Where the part of every lane begins.
struct LaneParts {
  int row[kLanes], col[kLanes];
};

LaneParts lane_parts(const TwinWindow& window) {
  LaneParts parts;
  for (int i = 0; i < kLanes; ++i) {
    parts.row[i] = i / window.lane_cols * window.rows;
    parts.col[i] = i % window.lane_cols * window.cols;
  }
  return parts;
}

// Row `row` of the inputs of every part, into the ring.
void transpose_row(const ConvInt8Args& args, const TwinWindow& window, const LaneParts& parts, int row,
                   int32_t* inputs) {
  const int ring = window.ring_rows(), cols = window.ring_cols();
  const int last_row = args.rows - 1 + window.reach_rows, last_col = args.cols - 1 + window.reach_cols;
  for (int c = 0; c < cols; ++c) {
    const uint8_t* pixel[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      const int r = parts.row[i] + row, col = parts.col[i] + c;
      pixel[i] = pixel_x(args, r < last_row ? r : last_row, col < last_col ? col : last_col) + window.origin;
    }
    transpose_blocks(pixel, 0, window.blocks, static_cast<ptrdiff_t>(ring) * cols * kLanes,
                     inputs + (static_cast<ptrdiff_t>(row % ring) * cols + c) * kLanes);
  }
}

// The outputs of row `row` of every part, of its columns [begin, end).
void place_outputs(const ConvInt8Args& args, const LaneParts& parts, int row, int begin, int end,
                   uint8_t* nowhere, TwinStrip* strip) {
  const Requantize& q = args.requantize;
  for (int lane = 0; lane < kLanes; ++lane) {
    const int r = parts.row[lane] + row, col = parts.col[lane] + begin;
    const int inside = r < args.rows ? args.cols - col : 0;  // columns
    const uint8_t* residual = pixel_residual(q, r, col);
    uint8_t* y = pixel_y(args, r, col);
    for (int v = 0; v < end - begin; ++v) {
      strip->residual[v * kLanes + lane] = v < inside ? residual : q.residual;
      strip->y[v * kLanes + lane] = v < inside ? y : nowhere;
      residual += q.residual_col_stride;
      y += args.y_col_stride;
    }
  }
}

void run_window(const ConvInt8Args& args, const TwinWindow& window, TwinStrip* strip, const TwinRun& run,
                int32_t* inputs, uint32_t* place, uint8_t* nowhere) {
  const int strips = conv_int8::twin_strips(window.cols);
  const LaneParts parts = lane_parts(window);
  for (int row = 0; row < window.reach_rows; ++row) transpose_row(args, window, parts, row, inputs);
  for (int row = 0; row < window.rows; ++row) {
    transpose_row(args, window, parts, row + window.reach_rows, inputs);
    conv_int8::place_twin_blocks(args, window, row, place);
    for (int s = 0; s < strips; ++s) {
      const int begin = strip_begin(window.cols, strips, s), end = strip_begin(window.cols, strips, s + 1);
      place_outputs(args, parts, row, begin, end, nowhere, strip);
      strip->inputs = inputs + begin * kLanes;
      kStrips<true>[end - begin - 1](run);
    }
  }
}

}  // namespace

void run_conv_int8_u8s8s32_block4_112x2__avx512vnni(const ConvInt8Args& args) {
  if (args.rows <= 0 || args.cols <= 0) return;
  const SparseTwins twins = conv_int8::sparse_twins(args.w, args.n, args.taps, args.k);
  const TwinWindow window = conv_int8::twin_window(args);
  const int channels =
      twins.chunks == 1 ? kGroup : (args.n_end - args.n_begin + kGroup - 1) / kGroup * kGroup;
  constexpr ptrdiff_t kStrip = kTwinVectors * kLanes;
  auto* place = static_cast<uint32_t*>(args.scratch);
  TwinStrip strip;
  TwinRun run;
  run.args = &args;
  run.twins = &twins;
  run.strip = &strip;
  run.bytes = reinterpret_cast<uint8_t*>(place + conv_int8::twin_place_entries(args));
  run.sums = reinterpret_cast<int32_t*>(run.bytes + kLine * kStrip);
  run.general = conv_int8::needs_general_epilogue(args);
  int32_t* inputs = run.sums + channels * kStrip;
  auto* nowhere = reinterpret_cast<uint8_t*>(inputs + conv_int8::twin_input_vectors(args, window) *
                                                          static_cast<size_t>(kLanes));
  strip.inputs = inputs;
  strip.place = place;
  if (window.shared)
    run_window(args, window, &strip, run, inputs, place, nowhere);
  else
    run_pixels(args, &strip, run, inputs, nowhere);
}

}  // namespace pyruntime
