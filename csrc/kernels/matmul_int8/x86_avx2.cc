#include "kernels/matmul_int8/x86_avx2_body.h"

namespace pyruntime {

extern const MatmulInt8Kernels matmul_int8__avx2;
const MatmulInt8Kernels matmul_int8__avx2 = {
    "matmul_int8__avx2", Isa::avx2, pack_rows, pack_columns, product, to_f32, to_u8, exp_codes};

}  // namespace pyruntime
