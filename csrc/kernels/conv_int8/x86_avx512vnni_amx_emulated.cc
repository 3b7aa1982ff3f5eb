// The AMX kernel on emulated tiles: for tests on CPUs without AMX, in no registry that a plan reads.
#define PYRUNTIME_EMULATE_AMX
#include "kernels/conv_int8/x86_amxint8_body.h"

namespace pyruntime {

void run_conv_int8_u8s8s32_32x32x64__amxint8_emulated(const ConvInt8Args& args) { run_amx(args); }

}  // namespace pyruntime
