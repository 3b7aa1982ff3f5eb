// Single sparse weights for few pixels: bytes of the inputs by vpermi2b, which needs VBMI.
#include "kernels/conv_int8/sparse_lanes_avx512.h"

namespace pyruntime {
namespace {

struct Bitmask {
  static constexpr int kIndexBytes = 4;
  static __m512i inputs(__m512i lo, __m512i hi, const uint8_t* index) {
    return _mm512_permutex2var_epi8(lo, _mm512_loadu_si512(index), hi);
  }
};

}  // namespace

void run_conv_int8_u8s8s32_bitmask_1x16__avx512vbmi(const ConvInt8Args& args) { run_lanes<Bitmask>(args); }

}  // namespace pyruntime
