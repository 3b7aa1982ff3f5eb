// Addressing of one pixel of a ConvInt8Args, shared by the sparse kernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/conv_int8/conv_int8.h"

namespace pyruntime {

[[gnu::always_inline]] static inline const uint8_t* pixel_x(const ConvInt8Args& args, int row, int col) {
  return args.x + row * args.x_row_stride + col * args.x_col_stride;
}

[[gnu::always_inline]] static inline uint8_t* pixel_y(const ConvInt8Args& args, int row, int col) {
  return static_cast<uint8_t*>(args.y) + row * args.y_row_stride + col * args.y_col_stride;
}

[[gnu::always_inline]] static inline const uint8_t* pixel_residual(const Requantize& q, int row, int col) {
  return q.residual == nullptr ? nullptr
                               : q.residual + row * q.residual_row_stride + col * q.residual_col_stride;
}

// Up to kStripPixels neighbouring output pixels of the rows x cols grid, counted row by row.
constexpr int kStripPixels = 128;
struct Strip {
  int count = 0;
  const uint8_t* x[kStripPixels];
  const uint8_t* residual[kStripPixels];
  uint8_t* y[kStripPixels];
};

// Fills the strip from pixel (*row, *col) on and advances them.
[[gnu::always_inline]] static inline void fill_strip(const ConvInt8Args& args, int capacity, int* row,
                                                     int* col, Strip* strip) {
  int count = 0;
  for (; count < capacity && *row < args.rows; ++count) {
    strip->x[count] = pixel_x(args, *row, *col);
    strip->residual[count] = pixel_residual(args.requantize, *row, *col);
    strip->y[count] = pixel_y(args, *row, *col);
    if (++*col == args.cols) {
      *col = 0;
      ++*row;
    }
  }
  strip->count = count;
}

// Copies the taps of one pixel side by side, tap_bytes = round_up(k, 4) each, and zeros up to `bytes`.
[[gnu::always_inline]] static inline void gather_taps(const ConvInt8Args& args, const uint8_t* x,
                                                      int tap_bytes, int bytes, uint8_t* inputs) {
  uint8_t* out = inputs;
  for (int t = 0; t < args.taps; ++t, out += tap_bytes) {
    __builtin_memset(out + tap_bytes - 4, 0, 4);
    __builtin_memcpy(out, x + args.tap_offset[t], static_cast<size_t>(args.k));
  }
  __builtin_memset(out, 0, static_cast<size_t>(inputs + bytes - out));
}

}  // namespace pyruntime
