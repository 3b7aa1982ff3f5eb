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
  return static_cast<size_t>((channels + 31) / 32) * ((kh * kw + 1) / 2) * 128;
}

void pack_pairs(const int8_t* w, int channels, int kh, int kw, void* packed) {
  int16_t* out = static_cast<int16_t*>(packed);
  const int taps = kh * kw;
  for (int begin = 0; begin < channels; begin += 32) {
    for (int t = 0; t < taps; t += 2) {
      for (int i = 0; i < 64; ++i) {
        const int vector = i / 16, half = i / 8 % 2, c = begin + 16 * half + 4 * vector + i / 2 % 4;
        const int tap = t + i % 2;
        const bool present = c < channels && tap < taps;
        *out++ = present ? w[static_cast<ptrdiff_t>(c) * taps + tap] : static_cast<int16_t>(0);
      }
    }
  }
}

namespace {

// The four weights of channel c in quad `quad`.
void read_quad(const int8_t* w, int c, const QuadLayout& layout, int quad, int8_t (&out)[4]) {
  const int8_t* channel = w + static_cast<ptrdiff_t>(c) * layout.kh * layout.kw;
  const int vertical = layout.vertical_rows() * layout.kw;
  for (int r = 0; r < 4; ++r) {
    int i = quad / layout.kw * 4 + r, j = quad % layout.kw;
    bool present = i < layout.kh;
    if (quad >= vertical) {
      const int h = quad - vertical;
      i = layout.kh - 1;
      j = layout.horizontal_column(h) + r;
      present = j >= 4 * h && j < layout.kw;
    }
    out[r] = present ? channel[i * layout.kw + j] : static_cast<int8_t>(0);
  }
}

}  // namespace

size_t packed_bytes_quads(int channels, int kh, int kw) {
  return static_cast<size_t>((channels + 63) / 64) * QuadLayout{kh, kw}.size() * 256;
}

void pack_quads(const int8_t* w, int channels, int kh, int kw, void* packed) {
  const QuadLayout layout{kh, kw};
  int8_t* out = static_cast<int8_t*>(packed);
  for (int begin = 0; begin < channels; begin += 64) {
    const int size = channels - begin < 64 ? channels - begin : 64;
    const int lanes = 4 / quads_pixels(size);  // 128-bit lanes of one pixel
    for (int quad = 0; quad < layout.size(); ++quad) {
      for (int slot = 0; slot < 64; ++slot, out += 4) {
        const int vector = slot / 16, lane = slot / 4 % 4, dword = slot % 4;
        const int c = 16 * (lane % lanes) + 4 * vector + dword;
        int8_t weights[4] = {};
        if (c < size) read_quad(w, begin + c, layout, quad, weights);
        for (int r = 0; r < 4; ++r) out[r] = weights[r];
      }
    }
  }
}

}  // namespace depthwise_int8
}  // namespace pyruntime
