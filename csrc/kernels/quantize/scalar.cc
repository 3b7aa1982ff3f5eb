#include "kernels/quantize/quantize_body.h"

namespace pyruntime {

extern const QuantizeKernels quantize__scalar;
const QuantizeKernels quantize__scalar = {"quantize__scalar", Isa::scalar, quantize, dequantize,
                                          planes_to_pixels};

}  // namespace pyruntime
