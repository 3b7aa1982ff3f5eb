#include "kernels/layer_norm/layer_norm_body.h"

namespace pyruntime {

extern const LayerNormKernel layer_norm__scalar;
const LayerNormKernel layer_norm__scalar = {"layer_norm__scalar", Isa::scalar, run};

}  // namespace pyruntime
