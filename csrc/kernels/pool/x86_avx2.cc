#include "kernels/pool/pool_body.h"

namespace pyruntime {

extern const PoolKernels pool__avx2;
const PoolKernels pool__avx2 = {"pool__avx2", Isa::avx2,   max_u8,           max_f32,
                                average_u8,   average_f32, global_average_u8};

}  // namespace pyruntime
