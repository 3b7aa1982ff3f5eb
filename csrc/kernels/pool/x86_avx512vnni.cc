#include "kernels/pool/pool_body.h"

namespace pyruntime {

extern const PoolKernels pool__avx512vnni;
const PoolKernels pool__avx512vnni = {"pool__avx512vnni", Isa::avx512vnni, max_u8,           max_f32,
                                      average_u8,         average_f32,     global_average_u8};

}  // namespace pyruntime
