#include "kernels/quantize/quantize_body.h"

namespace pyruntime {

extern const QuantizeKernels quantize__avx2;
const QuantizeKernels quantize__avx2 = {"quantize__avx2", Isa::avx2, quantize, dequantize, planes_to_pixels};

}  // namespace pyruntime
