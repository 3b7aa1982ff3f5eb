// The specification of the float depthwise convolution (depthwise_f32.h), one fma at a time.
#include <cmath>

#include "kernels/depthwise_f32/depthwise_f32.h"

namespace pyruntime {
namespace {

template <class T>
T* at(T* base, ptrdiff_t bytes) {
  return reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(base) + static_cast<uintptr_t>(bytes));
}

}  // namespace

void depthwise_f32_reference(const DepthwiseF32Args& a) {
  for (int r = 0; r < a.rows; ++r)
    for (int col = 0; col < a.cols; ++col)
      for (int c = a.channel_begin; c < a.channel_end; ++c) {
        float acc = a.bias[c];
        for (int i = 0; i < a.kh; ++i)
          for (int j = 0; j < a.kw; ++j) {
            const ptrdiff_t tap = i * a.tap_row_stride + j * a.tap_col_stride;
            const float x = at(a.x, r * a.x_row_stride + col * a.x_col_stride + tap)[c];
            acc = std::fma(x, a.w[(static_cast<ptrdiff_t>(i) * a.kw + j) * a.channels + c], acc);
          }
        if (acc < a.lo) acc = a.lo;
        if (acc > a.hi) acc = a.hi;
        at(a.y, r * a.y_row_stride + col * a.y_col_stride)[c] = acc;
      }
}

}  // namespace pyruntime
