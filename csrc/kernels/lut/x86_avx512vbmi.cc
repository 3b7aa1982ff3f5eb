// The table is four vectors of 64 entries. vpermi2b looks up the low seven bits of each byte in two of them;
// bit 7 chooses between the results for the lower and the upper half.
#include <immintrin.h>

#include "kernels/lut/lut.h"

namespace pyruntime {
namespace {

struct Table {
  __m512i entries[4];
};

inline __m512i look_up(const Table& t, __m512i x) {
  const __m512i low = _mm512_permutex2var_epi8(t.entries[0], x, t.entries[1]);
  const __m512i high = _mm512_permutex2var_epi8(t.entries[2], x, t.entries[3]);
  return _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high);
}

void run(size_t n, const uint8_t* x, const uint8_t* table, uint8_t* y) {
  Table t;
  for (int i = 0; i < 4; ++i) t.entries[i] = _mm512_loadu_si512(table + 64 * i);
  size_t i = 0;
  for (; i + 64 <= n; i += 64) _mm512_storeu_si512(y + i, look_up(t, _mm512_loadu_si512(x + i)));
  if (i < n) {
    const __mmask64 mask = ~0ull >> (64 - (n - i));
    _mm512_mask_storeu_epi8(y + i, mask, look_up(t, _mm512_maskz_loadu_epi8(mask, x + i)));
  }
}

}  // namespace

extern const LutKernel lut__avx512vbmi;
const LutKernel lut__avx512vbmi = {"lut__avx512vbmi", Isa::avx512vbmi, run};

}  // namespace pyruntime
