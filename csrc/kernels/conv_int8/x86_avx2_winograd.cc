#include "kernels/conv_int8/x86_avx2_winograd_body.h"

namespace pyruntime {

void run_conv_int8_u8s8s32_winograd4x4__avx2(const ConvInt8Args& args) { run_winograd(args); }

}  // namespace pyruntime
