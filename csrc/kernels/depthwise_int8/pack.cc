#include "kernels/depthwise_int8/pack.h"

namespace pyruntime {
namespace depthwise_int8 {

size_t packed_bytes_taps(int channels, int kh, int kw) { return static_cast<size_t>(channels) * kh * kw; }

void pack_taps(const int8_t* w, int channels, int kh, int kw, void* packed) {
  int8_t* out = static_cast<int8_t*>(packed);
  const int taps = kh * kw;
  for (int t = 0; t < taps; ++t) {
    for (int c = 0; c < channels; ++c) *out++ = w[static_cast<ptrdiff_t>(c) * taps + t];
  }
}

size_t packed_bytes_pairs(int channels, int kh, int kw) {
  return static_cast<size_t>((channels + 15) / 16) * ((kh * kw + 1) / 2) * 64;
}

void pack_pairs(const int8_t* w, int channels, int kh, int kw, void* packed) {
  int16_t* out = static_cast<int16_t*>(packed);
  const int taps = kh * kw;
  for (int begin = 0; begin < channels; begin += 16) {
    for (int t = 0; t < taps; t += 2) {
      for (int i = 0; i < 32; ++i) {
        const int c = begin + i / 2, tap = t + i % 2;
        const bool present = c < channels && tap < taps;
        *out++ = present ? w[static_cast<ptrdiff_t>(c) * taps + tap] : static_cast<int16_t>(0);
      }
    }
  }
}

size_t packed_bytes_quads(int channels, int kh, int kw) {
  return static_cast<size_t>((channels + 63) / 64) * kw * ((kh + 3) / 4) * 256;
}

void pack_quads(const int8_t* w, int channels, int kh, int kw, void* packed) {
  int8_t* out = static_cast<int8_t*>(packed);
  const int quads = (kh + 3) / 4;
  for (int begin = 0; begin < channels; begin += 64) {
    const int size = channels - begin < 64 ? channels - begin : 64;
    const int lanes = 4 / quads_pixels(size);  // 128-bit lanes of one pixel
    for (int j = 0; j < kw; ++j) {
      for (int q = 0; q < quads; ++q) {
        for (int slot = 0; slot < 64; ++slot) {
          const int vector = slot / 16, lane = slot / 4 % 4, dword = slot % 4;
          const int c = 16 * (lane % lanes) + 4 * vector + dword;
          for (int r = 0; r < 4; ++r) {
            const int i = 4 * q + r;
            const bool present = c < size && i < kh;
            *out++ =
                present ? w[(static_cast<ptrdiff_t>(begin + c) * kh + i) * kw + j] : static_cast<int8_t>(0);
          }
        }
      }
    }
  }
}

}  // namespace depthwise_int8
}  // namespace pyruntime
