#include <immintrin.h>

#include <cstring>

#include "base/transpose_avx2.h"
#include "kernels/conv_int8/mixed_groups.h"

namespace pyruntime {
namespace conv_int8 {
namespace {

inline __m256i load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
inline void store(void* to, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(to), v); }

// What the positive (negative, without sign) of each pair of bytes come to, in 16 bits.
inline __m256i positive_sums(__m256i w) {
  return _mm256_maddubs_epi16(_mm256_max_epi8(w, _mm256_setzero_si256()), _mm256_set1_epi8(1));
}
inline __m256i negative_sums(__m256i w) {
  const __m256i zero = _mm256_setzero_si256();
  const __m256i magnitude = _mm256_and_si256(_mm256_cmpgt_epi8(zero, w), _mm256_sub_epi8(zero, w));
  return _mm256_maddubs_epi16(magnitude, _mm256_set1_epi8(1));
}

// 8 groups of the rows, which hold 32 bytes each from `offset` on.
inline void narrow_8(const int8_t* const* rows, size_t offset, uint8_t* narrow) {
  for (int half = 0; half < 2; ++half) {
    __m256i r[8];
    for (int i = 0; i < 8; ++i) r[i] = load(rows[8 * half + i] + offset);
    transpose_8x8(r);
    for (int g = 0; g < 8; ++g) store(narrow + kNarrowBytes * g + 32 * half, r[g]);
  }
}

// Bit 4 g of the result: group g of the 8 that 32 bytes of each row are is wide.
inline uint32_t wide_8(const int8_t* const* rows, size_t offset) {
  const __m256i most = _mm256_set1_epi16(kMostOfASign);
  __m256i over = _mm256_setzero_si256();
  for (int i = 0; i < 16; ++i) {
    const __m256i w = load(rows[i] + offset);
    over = _mm256_or_si256(over, _mm256_cmpgt_epi16(positive_sums(w), most));
    over = _mm256_or_si256(over, _mm256_cmpgt_epi16(negative_sums(w), most));
  }
  const __m256i groups = _mm256_cmpeq_epi32(over, _mm256_setzero_si256());
  return ~static_cast<uint32_t>(_mm256_movemask_epi8(groups)) & 0x11111111u;
}

// The last groups, fewer than 8, of each row; missing ones are zero.
struct Tail {
  Tail(const int8_t* const* rows, size_t groups) {
    std::memset(bytes, 0, sizeof(bytes));
    for (int i = 0; i < 16; ++i) {
      std::memcpy(bytes[i], rows[i] + groups / 8 * 32, groups % 8 * 4);
      row[i] = bytes[i];
    }
  }
  int8_t bytes[16][32];
  const int8_t* row[16];
};

}  // namespace

void narrow_groups__avx2(const int8_t* const* rows, size_t groups, uint8_t* narrow) {
  for (size_t g = 0; g + 8 <= groups; g += 8) narrow_8(rows, 4 * g, narrow + kNarrowBytes * g);
  if (groups % 8 == 0) return;
  uint8_t last[8 * kNarrowBytes];
  narrow_8(Tail(rows, groups).row, 0, last);
  std::memcpy(narrow + groups / 8 * 8 * kNarrowBytes, last, groups % 8 * kNarrowBytes);
}

void pair_sums__avx2(const uint8_t* narrow, size_t groups, uint8_t* sums, uint8_t* peaks) {
  for (size_t g = 0; g < groups; ++g, narrow += kNarrowBytes, sums += kNarrowBytes) {
    const __m256i a = load(narrow), b = load(narrow + 32);
    const __m256i positive = _mm256_packus_epi16(positive_sums(a), positive_sums(b));
    const __m256i negative = _mm256_packus_epi16(negative_sums(a), negative_sums(b));
    store(sums, positive);
    store(sums + 32, negative);
    // The largest byte is what the smallest of their complements lacks.
    const __m256i larger = _mm256_max_epu8(positive, negative);
    const __m128i half = _mm_max_epu8(_mm256_castsi256_si128(larger), _mm256_extracti128_si256(larger, 1));
    const __m128i words = _mm_max_epu8(half, _mm_srli_epi16(half, 8));
    const __m128i lacking = _mm_xor_si128(_mm_and_si128(words, _mm_set1_epi16(0xFF)), _mm_set1_epi16(0xFF));
    peaks[g] = static_cast<uint8_t>(0xFF ^ _mm_cvtsi128_si32(_mm_minpos_epu16(lacking)));
  }
}

size_t count_wide__avx2(const int8_t* const* rows, size_t groups) {
  size_t count = 0;
  for (size_t g = 0; g + 8 <= groups; g += 8) count += _mm_popcnt_u32(wide_8(rows, 4 * g));
  if (groups % 8 != 0) count += _mm_popcnt_u32(wide_8(Tail(rows, groups).row, 0));
  return count;
}

size_t pair_groups__avx2(const uint8_t* sums, uint32_t* open, size_t count, uint32_t* paired,
                         uint32_t* single) {
  // Of the groups with the smallest weights, which fit best, so many are tried for each with large ones.
  constexpr size_t kCandidates = 16;
  const __m256i most = _mm256_set1_epi8(static_cast<char>(kMostOfASign));
  uint32_t* const first = paired;
  uint32_t* const end = open + count;
  for (uint32_t* last = end; open < last;) {
    const uint32_t high = *--last;
    const __m256i positive = load(sums + kNarrowBytes * high),
                  negative = load(sums + kNarrowBytes * high + 32);
    const size_t left = static_cast<size_t>(last - open), tried = left < kCandidates ? left : kCandidates;
    size_t i = 0;
    for (; i < tried; ++i) {
      const uint8_t* low = sums + kNarrowBytes * open[i];
      const __m256i p = _mm256_subs_epu8(_mm256_adds_epu8(positive, load(low)), most);
      const __m256i n = _mm256_subs_epu8(_mm256_adds_epu8(negative, load(low + 32)), most);
      const __m256i over = _mm256_or_si256(p, n);
      if (_mm256_testz_si256(over, over)) break;
    }
    if (i == tried) {
      *single++ = high;
      continue;
    }
    *paired++ = high;
    *paired++ = open[i];
    for (; i > 0; --i) open[i] = open[i - 1];
    ++open;
  }
  return static_cast<size_t>(paired - first);
}

void write_wide__avx2(const uint8_t* narrow, uint8_t* out) {
  for (int half = 0; half < 2; ++half) {
    const __m256i w = load(narrow + 32 * half);
    store(out + 32 * half, _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8));
    store(out + 64 + 32 * half, _mm256_srai_epi16(w, 8));
  }
}

}  // namespace conv_int8
}  // namespace pyruntime
