#include "kernels/matmul_int8/x86_avx2_body.h"

namespace pyruntime {

extern const MatmulInt8Kernels matmul_int8__avxvnni;
const MatmulInt8Kernels matmul_int8__avxvnni = {
    "matmul_int8__avxvnni", Isa::avxvnni, pack_rows, pack_columns, product, to_f32, to_u8, exp_codes};

}  // namespace pyruntime
