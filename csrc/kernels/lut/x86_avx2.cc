// 256 entries are 16 rows T0..T15 of 16. A shuffle looks up the low four bits of each byte, or gives 0 where
// bit 7 is set. The upper half of the table works on x ^ 0x80, so each half sees its own bytes as 0..127 and
// the other's as negative. Walking the rows of a half, 16 is subtracted (saturating, so negative stays
// negative) before each row: row i contributes to the bytes >= 16 i. With differences D0 = T0, Di = Ti ^
// T(i-1), xor of all contributions is the entry.
#include <immintrin.h>

#include "kernels/lut/lut.h"

namespace pyruntime {
namespace {

inline __m256i look_up(const __m256i* differences, __m256i x) {
  const __m256i sixteen = _mm256_set1_epi8(16);
  __m256i low = x, high = _mm256_xor_si256(x, _mm256_set1_epi8(-128));
  __m256i y =
      _mm256_xor_si256(_mm256_shuffle_epi8(differences[0], low), _mm256_shuffle_epi8(differences[8], high));
  for (int i = 1; i < 8; ++i) {
    low = _mm256_subs_epi8(low, sixteen);
    high = _mm256_subs_epi8(high, sixteen);
    y = _mm256_xor_si256(y, _mm256_shuffle_epi8(differences[i], low));
    y = _mm256_xor_si256(y, _mm256_shuffle_epi8(differences[8 + i], high));
  }
  return y;
}

void run(size_t n, const uint8_t* x, const uint8_t* table, uint8_t* y) {
  size_t i = 0;
  if (n >= 128) {  // below, the preparation costs more than it saves
    __m256i differences[16];
    __m256i previous = _mm256_setzero_si256();
    for (int row = 0; row < 16; ++row) {
      const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 16 * row));
      const __m256i both = _mm256_broadcastsi128_si256(entries);
      differences[row] = row == 8 ? both : _mm256_xor_si256(both, previous);
      previous = both;
    }
    for (; i + 32 <= n; i += 32) {
      const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + i), look_up(differences, v));
    }
  }
  for (; i < n; ++i) y[i] = table[x[i]];
}

}  // namespace

extern const LutKernel lut__avx2;
const LutKernel lut__avx2 = {"lut__avx2", Isa::avx2, run};

}  // namespace pyruntime
