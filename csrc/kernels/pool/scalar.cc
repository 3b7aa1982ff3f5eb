#include "kernels/pool/pool_body.h"

namespace pyruntime {

extern const PoolKernels pool__scalar;
const PoolKernels pool__scalar = {"pool__scalar", Isa::scalar, max_u8,           max_f32,
                                  average_u8,     average_f32, global_average_u8};

}  // namespace pyruntime
