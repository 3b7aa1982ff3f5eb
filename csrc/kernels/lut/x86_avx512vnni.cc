// The walk over sixteen rows of x86_avx2.cc on 64 bytes at a time, for CPUs without VBMI: 16 shuffles, which
// have one port.
#include <immintrin.h>

#include "kernels/lut/lut.h"

namespace pyruntime {
namespace {

constexpr int kXor3 = 0x96;

inline __m512i look_up(const __m512i* differences, __m512i x) {
  const __m512i sixteen = _mm512_set1_epi8(16);
  __m512i low = x, high = _mm512_xor_si512(x, _mm512_set1_epi8(-128));
  __m512i y =
      _mm512_xor_si512(_mm512_shuffle_epi8(differences[0], low), _mm512_shuffle_epi8(differences[8], high));
  for (int i = 1; i < 8; ++i) {
    low = _mm512_subs_epi8(low, sixteen);
    high = _mm512_subs_epi8(high, sixteen);
    y = _mm512_ternarylogic_epi32(y, _mm512_shuffle_epi8(differences[i], low),
                                  _mm512_shuffle_epi8(differences[8 + i], high), kXor3);
  }
  return y;
}

void run(size_t n, const uint8_t* x, const uint8_t* table, uint8_t* y) {
  size_t i = 0;
  if (n >= 128) {  // below, the preparation costs more than it saves
    __m512i differences[16];
    __m512i previous = _mm512_setzero_si512();
    for (int row = 0; row < 16; ++row) {
      const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 16 * row));
      const __m512i all = _mm512_broadcast_i32x4(entries);
      differences[row] = row == 8 ? all : _mm512_xor_si512(all, previous);
      previous = all;
    }
    for (; i + 64 <= n; i += 64) _mm512_storeu_si512(y + i, look_up(differences, _mm512_loadu_si512(x + i)));
  }
  for (; i < n; ++i) y[i] = table[x[i]];
}

}  // namespace

extern const LutKernel lut__avx512vnni;
const LutKernel lut__avx512vnni = {"lut__avx512vnni", Isa::avx512vnni, run};

}  // namespace pyruntime
