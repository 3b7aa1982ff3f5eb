#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace pyruntime {
namespace {

// 16 pixels at a time: each quarter closes its gaps, then the 12 words with bytes move together.
inline size_t store_triples(const uint32_t* words, size_t count, uint8_t* y) {
  const __m512i bytes =
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
  const __m512i together = _mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 7, 11, 15);
  size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    __m512i v = _mm512_loadu_si512(words + i);
    v = _mm512_permutexvar_epi32(together, _mm512_shuffle_epi8(v, bytes));
    _mm512_mask_storeu_epi32(y + 3 * i, 0x0FFF, v);
  }
  return i;
}

}  // namespace
}  // namespace pyruntime

#include "kernels/quantize/quantize_body.h"

namespace pyruntime {

extern const QuantizeKernels quantize__avx512vnni;
const QuantizeKernels quantize__avx512vnni = {"quantize__avx512vnni", Isa::avx512vnni, quantize, dequantize,
                                              planes_to_pixels};

}  // namespace pyruntime
