// The decoder's loops on vectors of 8 lanes: 8 slots are looked up, and a shuffle hands the next words to the
// lanes that need one.
#include <immintrin.h>

#include "base/transpose_avx2.h"
#include "entropy/decode_kernel.h"

namespace pyruntime {
namespace entropy {
namespace {

constexpr int kVectors = kMaxLanes / 8;

// For each set of lanes that need a word, which bytes each takes: the words of as many lanes as need one
// before it are passed over.
struct Shuffles {
  alignas(16) uint8_t of[256][16];
  constexpr Shuffles() : of() {
    for (int set = 0; set < 256; ++set) {
      uint8_t next = 0;
      for (int lane = 0; lane < 8; ++lane) {
        of[set][2 * lane] = next;
        of[set][2 * lane + 1] = static_cast<uint8_t>(next + 1);
        next = static_cast<uint8_t>(next + 2 * (set >> lane & 1));
      }
    }
  }
};
constexpr Shuffles kShuffles;

inline __m256i load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
inline void store(void* to, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(to), v); }

// table[at] of 8 lanes. A quarter faster than the gather instruction (AMD Zen 3), and as fast on CPUs whose
// microcode has slowed that down.
inline __m256i look_up(const uint32_t* table, __m256i at) {
  const __m128i low = _mm256_castsi256_si128(at), high = _mm256_extracti128_si256(at, 1);
  const uint64_t a = static_cast<uint64_t>(_mm_cvtsi128_si64(low));
  const uint64_t b = static_cast<uint64_t>(_mm_extract_epi64(low, 1));
  const uint64_t c = static_cast<uint64_t>(_mm_cvtsi128_si64(high));
  const uint64_t d = static_cast<uint64_t>(_mm_extract_epi64(high, 1));
  const auto entry = [table](uint64_t i) { return static_cast<int>(table[i]); };
  __m128i x = _mm_cvtsi32_si128(entry(static_cast<uint32_t>(a)));
  __m128i y = _mm_cvtsi32_si128(entry(static_cast<uint32_t>(c)));
  x = _mm_insert_epi32(x, entry(a >> 32), 1);
  y = _mm_insert_epi32(y, entry(c >> 32), 1);
  x = _mm_insert_epi32(x, entry(static_cast<uint32_t>(b)), 2);
  y = _mm_insert_epi32(y, entry(static_cast<uint32_t>(d)), 2);
  x = _mm_insert_epi32(x, entry(b >> 32), 3);
  y = _mm_insert_epi32(y, entry(d >> 32), 3);
  return _mm256_inserti128_si256(_mm256_castsi128_si256(x), y, 1);
}

// x with a word shifted in where it is below kLow and `active`.
[[gnu::always_inline]] inline __m256i refill(__m256i x, __m256i active, const uint8_t*& next) {
  const __m256i high = _mm256_srli_epi32(x, 16);
  const __m256i low = _mm256_and_si256(_mm256_cmpeq_epi32(high, _mm256_setzero_si256()), active);
  const unsigned set = static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(low)));
  const __m128i shuffle = _mm_load_si128(reinterpret_cast<const __m128i*>(kShuffles.of[set]));
  const __m128i words = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(next)), shuffle);
  next += 2 * _mm_popcnt_u32(set);
  const __m256i filled = _mm256_or_si256(_mm256_slli_epi32(x, 16), _mm256_cvtepu16_epi32(words));
  return _mm256_blendv_epi8(x, filled, low);
}

// frequency * (x / kScale) + position within the interval.
inline __m256i advance(__m256i x, __m256i slot) {
  const __m256i high = _mm256_srli_epi32(x, kScaleBits);
  const __m256i frequency = _mm256_and_si256(_mm256_srli_epi32(slot, 8), _mm256_set1_epi32(0xFFF));
  const __m256i rest = _mm256_add_epi32(high, _mm256_srli_epi32(slot, 20));
  return _mm256_add_epi32(_mm256_mullo_epi32(frequency, high), rest);
}

// The symbols of a slot as byte v of each lane.
inline __m256i symbols(__m256i slot, int v) {
  return _mm256_slli_epi32(_mm256_and_si256(slot, _mm256_set1_epi32(0xFF)), 8 * v);
}

// Of the last of so many vectors, the lanes in use.
inline __m256i last_of(int lanes, int vectors) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes - 8 * (vectors - 1)), lane);
}

// The lanes in use of vector v of V; all but the last one are full.
template <int V, bool kFull>
[[gnu::always_inline]] inline __m256i active_of(int v, __m256i last) {
  return kFull || v < V - 1 ? _mm256_set1_epi32(-1) : last;
}

template <int V, bool kFull>
const uint8_t* decode_joint(const Bundle& bundle, const Columns& columns, const uint8_t* next) {
  const __m256i last = last_of(bundle.lanes, V);
  const __m256i within = _mm256_set1_epi32(static_cast<int>(kScale - 1));
  __m256i x[V];
  for (int v = 0; v < V; ++v) x[v] = load(bundle.x + 8 * v);
  for (int i = 0; i < columns.count; ++i) {
    const Slot* table = bundle.slots + columns.column_class[i] * bundle.slot_stride;
    __m256i out = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const __m256i active = active_of<V, kFull>(v, last);
      const __m256i at = _mm256_add_epi32(_mm256_and_si256(x[v], within), load(bundle.lane_slots + 8 * v));
      const __m256i slot = look_up(table, at);
      out = _mm256_or_si256(out, symbols(slot, v));
      x[v] = refill(_mm256_blendv_epi8(x[v], advance(x[v], slot), active), active, next);
    }
    store(columns.out + size_t{kMaxLanes} * columns.place[i], out);
  }
  for (int v = 0; v < V; ++v) store(bundle.x + 8 * v, x[v]);
  return next;
}

// kUniform: all lanes are of one row class, so that what they look up for a flag is in one vector.
template <int V, bool kFull, bool kWithStates, bool kUniform>
const uint8_t* decode_split(const Bundle& bundle, const Columns& columns, const uint8_t* next) {
  constexpr int kCount = kWithStates ? kStates : 1;
  const __m256i last = last_of(bundle.lanes, V);
  const __m256i within = _mm256_set1_epi32(static_cast<int>(kScale - 1));
  const __m256i scale = _mm256_set1_epi32(static_cast<int>(kScale));
  __m256i x[V], count[V];
  for (int v = 0; v < V; ++v) x[v] = load(bundle.x + 8 * v);
  for (int v = 0; v < V; ++v) count[v] = load(bundle.count + 8 * v);
  for (int i = 0; i < columns.count; ++i) {
    const size_t c = columns.column_class[i], k = columns.first + static_cast<size_t>(i);
    const bool opens = kWithStates && (k & 3) == 0;  // a group of four
    const uint32_t* zero = bundle.zero + c * kCount + (kWithStates ? flag_state(k, 0) : 0);
    __m256i used[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const __m256i active = active_of<V, kFull>(v, last);
      if (opens) count[v] = _mm256_srli_epi32(_mm256_cmpgt_epi32(count[v], _mm256_setzero_si256()), 31);
      const __m256i of_class = load(bundle.lane_zero + 8 * v);
      const __m256i p = kUniform ? _mm256_permutevar8x32_epi32(load(zero + bundle.lane_zero[0]), count[v])
                                 : look_up(zero, _mm256_add_epi32(of_class, count[v]));
      const __m256i slot = _mm256_and_si256(x[v], within), high = _mm256_srli_epi32(x[v], kScaleBits);
      const __m256i is_zero = _mm256_cmpgt_epi32(p, slot);
      used[v] = _mm256_andnot_si256(is_zero, active);
      const __m256i frequency = _mm256_blendv_epi8(_mm256_sub_epi32(scale, p), p, is_zero);
      const __m256i bias = _mm256_sub_epi32(slot, _mm256_andnot_si256(is_zero, p));
      const __m256i moved = _mm256_add_epi32(_mm256_mullo_epi32(frequency, high), bias);
      x[v] = refill(_mm256_blendv_epi8(x[v], moved, active), active, next);
      if (kWithStates) count[v] = _mm256_sub_epi32(opens ? _mm256_setzero_si256() : count[v], used[v]);
    }
    const Slot* table = bundle.slots + c * bundle.slot_stride;
    __m256i out = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      if (_mm256_testz_si256(used[v], used[v])) continue;
      const __m256i at = _mm256_add_epi32(_mm256_and_si256(x[v], within), load(bundle.lane_slots + 8 * v));
      const __m256i slot = _mm256_and_si256(look_up(table, at), used[v]);
      out = _mm256_or_si256(out, symbols(slot, v));
      x[v] = refill(_mm256_blendv_epi8(x[v], advance(x[v], slot), used[v]), used[v], next);
    }
    store(columns.out + size_t{kMaxLanes} * columns.place[i], out);
  }
  for (int v = 0; v < V; ++v) store(bundle.x + 8 * v, x[v]);
  for (int v = 0; v < V; ++v) store(bundle.count + 8 * v, count[v]);
  return next;
}

template <int V, bool kFull, bool kWithStates>
const uint8_t* decode_split(const Bundle& bundle, const Columns& columns, const uint8_t* next) {
  bool uniform = true;
  for (int l = 1; l < bundle.lanes; ++l) uniform &= bundle.lane_zero[l] == bundle.lane_zero[0];
  return uniform ? decode_split<V, kFull, kWithStates, true>(bundle, columns, next)
                 : decode_split<V, kFull, kWithStates, false>(bundle, columns, next);
}

template <int V, bool kFull>
const uint8_t* decode(const Bundle& bundle, const Columns& columns, int zeros, const uint8_t* next) {
  if (zeros == 0) return decode_joint<V, kFull>(bundle, columns, next);
  return zeros == 1 ? decode_split<V, kFull, false>(bundle, columns, next)
                    : decode_split<V, kFull, true>(bundle, columns, next);
}

const uint8_t* decode_columns(const Bundle& bundle, const Columns& columns, int zeros, const uint8_t* next) {
  switch (bundle.lanes) {
    case 8:
      return decode<1, true>(bundle, columns, zeros, next);
    case 16:
      return decode<2, true>(bundle, columns, zeros, next);
    case 32:
      return decode<4, true>(bundle, columns, zeros, next);
  }
  switch ((bundle.lanes + 7) / 8) {
    case 1:
      return decode<1, false>(bundle, columns, zeros, next);
    case 2:
      return decode<2, false>(bundle, columns, zeros, next);
    case 3:
      return decode<3, false>(bundle, columns, zeros, next);
    default:
      return decode<kVectors, false>(bundle, columns, zeros, next);
  }
}

// Of 4 columns, each [8 lanes][4 vectors] bytes: to[j] is [2 halves][4 vectors][4 columns] for lanes j and
// 4 + j.
inline void transpose_bytes(const uint8_t* from, __m256i* to) {
  const __m256i a = load(from), b = load(from + kMaxLanes);
  const __m256i c = load(from + 2 * kMaxLanes), d = load(from + 3 * kMaxLanes);
  const __m256i ab = _mm256_unpacklo_epi8(a, b), cd = _mm256_unpacklo_epi8(c, d);
  const __m256i ab4 = _mm256_unpackhi_epi8(a, b), cd4 = _mm256_unpackhi_epi8(c, d);
  to[0] = _mm256_unpacklo_epi16(ab, cd);
  to[1] = _mm256_unpackhi_epi16(ab, cd);
  to[2] = _mm256_unpacklo_epi16(ab4, cd4);
  to[3] = _mm256_unpackhi_epi16(ab4, cd4);
}

// 32 columns: row[l] receives 32 bytes.
void transpose_32(const uint8_t* from, int lanes, uint8_t* const* rows, size_t offset) {
  __m256i part[8][4];
  for (int g = 0; g < 8; ++g) transpose_bytes(from + 4 * kMaxLanes * g, part[g]);
  for (int j = 0; j < 4; ++j) {
    __m256i r[8];
    for (int g = 0; g < 8; ++g) r[g] = part[g][j];
    transpose_8x8(r);  // dword 4 * half + vector of each group of columns
    for (int v = 0; v < kVectors; ++v) {
      if (8 * v + j < lanes) store(rows[8 * v + j] + offset, r[v]);
      if (8 * v + 4 + j < lanes) store(rows[8 * v + 4 + j] + offset, r[4 + v]);
    }
  }
}

void write_rows(const uint8_t* from, size_t columns, int lanes, uint8_t* const* rows) {
  size_t k = 0;
  for (; k + 32 <= columns; k += 32) transpose_32(from + k * kMaxLanes, lanes, rows, k);
  if (k == columns) return;
  uint8_t rest[kMaxLanes][32];
  uint8_t* to[kMaxLanes];
  for (int l = 0; l < lanes; ++l) to[l] = rest[l];
  transpose_32(from + k * kMaxLanes, lanes, to, 0);
  for (int l = 0; l < lanes; ++l) {
    for (size_t i = k; i < columns; ++i) rows[l][i] = rest[l][i - k];
  }
}

}  // namespace

extern const DecodeKernel decode__avx2;
const DecodeKernel decode__avx2 = {Isa::avx2, decode_columns, write_rows};

}  // namespace entropy
}  // namespace pyruntime
