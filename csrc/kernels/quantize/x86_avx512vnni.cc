#include "kernels/quantize/quantize_body.h"

namespace pyruntime {

extern const QuantizeKernels quantize__avx512vnni;
const QuantizeKernels quantize__avx512vnni = {"quantize__avx512vnni", Isa::avx512vnni, quantize, dequantize,
                                              planes_to_pixels};

}  // namespace pyruntime
