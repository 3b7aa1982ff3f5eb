#include "kernels/depthwise_f32/x86_depthwise_body.h"

namespace pyruntime {

extern const DepthwiseF32Kernel depthwise_f32__avx2;
const DepthwiseF32Kernel depthwise_f32__avx2 = {"depthwise_f32__avx2", Isa::avx2, run};

}  // namespace pyruntime
