#include "kernels/conv_f32/x86_conv_body.h"

namespace pyruntime {

extern const ConvF32Kernel conv_f32__avx2;
const ConvF32Kernel conv_f32__avx2 = {
    "conv_f32_6x16__avx2", Isa::avx2, 2 * kVector, packed_bytes<kVector>, pack<kVector>,
    pack_matrix<kVector>,  run};

}  // namespace pyruntime
