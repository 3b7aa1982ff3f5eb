#include "kernels/depthwise_f32/x86_depthwise_body.h"

namespace pyruntime {

extern const DepthwiseF32Kernel depthwise_f32__avx512vnni;
const DepthwiseF32Kernel depthwise_f32__avx512vnni = {"depthwise_f32__avx512vnni", Isa::avx512vnni, run};

}  // namespace pyruntime
