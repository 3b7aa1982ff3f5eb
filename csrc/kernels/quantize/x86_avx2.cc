#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace pyruntime {
namespace {

// 8 pixels at a time: each half closes its gaps, then the 6 words with bytes move together.
inline size_t store_triples(const uint32_t* words, size_t count, uint8_t* y) {
  const __m256i bytes =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
  const __m256i together = _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7);
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words + i));
    v = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(v, bytes), together);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y + 3 * i), _mm256_castsi256_si128(v));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(y + 3 * i + 16), _mm256_extracti128_si256(v, 1));
  }
  return i;
}

}  // namespace
}  // namespace pyruntime

#include "kernels/quantize/quantize_body.h"

namespace pyruntime {

extern const QuantizeKernels quantize__avx2;
const QuantizeKernels quantize__avx2 = {"quantize__avx2", Isa::avx2, quantize, dequantize, planes_to_pixels};

}  // namespace pyruntime
