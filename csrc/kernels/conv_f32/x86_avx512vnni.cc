#include "kernels/conv_f32/x86_conv_body.h"

namespace pyruntime {

extern const ConvF32Kernel conv_f32__avx512vnni;
const ConvF32Kernel conv_f32__avx512vnni = {"conv_f32_14x32__avx512vnni",
                                            Isa::avx512vnni,
                                            2 * kVector,
                                            packed_bytes<kVector>,
                                            pack<kVector>,
                                            pack_matrix<kVector>,
                                            run};

}  // namespace pyruntime
