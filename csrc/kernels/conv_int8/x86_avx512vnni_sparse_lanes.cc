// 1x4 blocks of sparse weights for few pixels: dwords of the inputs by vpermi2d.
#include "kernels/conv_int8/sparse_lanes_avx512.h"

namespace pyruntime {
namespace {

struct Block4 {
  static constexpr int kIndexBytes = 1;
  static __m512i inputs(__m512i lo, __m512i hi, const uint8_t* index) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(index));
    return _mm512_permutex2var_epi32(lo, _mm512_cvtepu8_epi32(bytes), hi);
  }
};

}  // namespace

void run_conv_int8_u8s8s32_block4_1x16__avx512vnni(const ConvInt8Args& args) { run_lanes<Block4>(args); }

}  // namespace pyruntime
