// The specification of the float convolution: the loop nest of conv_f32.h, one fma at a time.
#include <cmath>

#include "kernels/conv_f32/conv_f32.h"

namespace pyruntime {
namespace {

template <class T>
T* at(T* base, ptrdiff_t bytes) {
  return reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(base) + static_cast<uintptr_t>(bytes));
}

}  // namespace

void conv_f32_reference(const ConvF32Args& a, const float* w) {
  for (int r = 0; r < a.rows; ++r)
    for (int c = 0; c < a.cols; ++c)
      for (int o = a.n_begin; o < a.n_end; ++o) {
        float acc = a.bias[o];
        for (int t = 0; t < a.taps; ++t) {
          const float* x = at(a.x, r * a.x_row_stride + c * a.x_col_stride + a.tap_offset[t]);
          const float* row = w + (static_cast<ptrdiff_t>(o) * a.taps + t) * a.k;
          for (int i = 0; i < a.k; ++i) acc = std::fma(x[i], row[i], acc);
        }
        if (a.residual) acc += at(a.residual, r * a.residual_row_stride + c * a.residual_col_stride)[o];
        if (acc < a.lo) acc = a.lo;
        if (acc > a.hi) acc = a.hi;
        at(a.y, r * a.y_row_stride + c * a.y_col_stride)[o] = acc;
      }
}

}  // namespace pyruntime
