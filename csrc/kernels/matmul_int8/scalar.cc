#include "kernels/matmul_int8/matmul_int8_words.h"

namespace pyruntime {
namespace {

void pack_columns(int64_t k, int64_t n, const uint8_t* x, ptrdiff_t k_stride, ptrdiff_t n_stride,
                  int32_t zero_point, int16_t* out) {
  for (int64_t j = 0; j < n; j += kMatmulPanel, out += matmul_padded_k(k) * kMatmulPanel) {
    const int64_t columns = n - j < kMatmulPanel ? n - j : kMatmulPanel;
    pack_panel(k, columns, x + j * n_stride, k_stride, n_stride, zero_point, out);
  }
}

void product(int64_t m, int64_t n, int64_t k2, const int16_t* a, const int16_t* b, int32_t* c,
             ptrdiff_t c_stride) {
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < matmul_padded_n(n); ++j) {
      const int16_t* column = b + j / kMatmulPanel * k2 * kMatmulPanel + j % kMatmulPanel * 2;
      int32_t sum = 0;
      for (int64_t k = 0; k < k2; ++k) sum += a[i * k2 + k] * column[k / 2 * 2 * kMatmulPanel + k % 2];
      c[i * c_stride + j] = sum;
    }
  }
}

}  // namespace

extern const MatmulInt8Kernels matmul_int8__scalar;
const MatmulInt8Kernels matmul_int8__scalar = {
    "matmul_int8__scalar", Isa::scalar, pack_rows, pack_columns, product, to_f32, to_u8, exp_codes};

}  // namespace pyruntime
