#include "kernels/elementwise/elementwise_body.h"

namespace pyruntime {

extern const ElementwiseKernels elementwise__scalar;
const ElementwiseKernels elementwise__scalar = {
    "elementwise__scalar", Isa::scalar, add_u8, mul_u8, binary_f32, unary_f32, softmax_f32, mean_f32};

}  // namespace pyruntime
