// f32 <-> 8 bits (docs/format.md, quantize and dequantize). `flip` is 0 for u8 and 0x80 for s8 output bytes:
// the quantized value is computed as u8 with zero point zero_point (+128 for s8) and the byte is xored with
// flip.
//   quantize:   y = clamp(rne(x / scale) + zero_point, 0, 255) ^ flip, x / scale one float32 division; NaN
//   gives 0 ^ flip dequantize: y = f32(int(x ^ flip) - zero_point) * scale planes_to_pixels: quantize
//   `channels` planes (plane_stride floats apart) of `n` values into n pixels of `channels`
//     bytes, y_pitch bytes apart: the layout change NCHW -> NHWC happens in the same pass.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/isa.h"

namespace pyruntime {

struct QuantizeKernels {
  const char* name;
  Isa isa;
  void (*quantize)(size_t n, const float* x, float scale, int32_t zero_point, uint8_t flip, uint8_t* y);
  void (*dequantize)(size_t n, const uint8_t* x, float scale, int32_t zero_point, uint8_t flip, float* y);
  void (*planes_to_pixels)(size_t n, int channels, const float* x, ptrdiff_t plane_stride, float scale,
                           int32_t zero_point, uint8_t* y, ptrdiff_t y_pitch);
};

const QuantizeKernels* quantize_kernels(int* count);
const QuantizeKernels& quantize_reference();  // the specification, used by tests only

}  // namespace pyruntime
