#include "kernels/layer_norm/layer_norm_body.h"

namespace pyruntime {

extern const LayerNormKernel layer_norm__avx2;
const LayerNormKernel layer_norm__avx2 = {"layer_norm__avx2", Isa::avx2, run};

}  // namespace pyruntime
