// Cost models of the rows: estimated cycles of one core. Built for the baseline, since plans ask before they
// choose.
#include "kernels/conv_int8/cost.h"

#include <cmath>

#include "base/cpu_features.h"
#include "kernels/conv_int8/pack.h"
#include "kernels/conv_int8/panel8.h"
#include "kernels/conv_int8/winograd.h"

namespace pyruntime {
namespace {

// Cycles to stream `bytes` of weights that no cache below L3 keeps.
double stream_cycles(double bytes) {
  return bytes > 512.0 * 1024.0 ? bytes / cpu_features().l3_bytes_per_cycle : 0.0;
}

double round_up(int value, int granule) {
  return static_cast<double>((value + granule - 1) / granule * granule);
}

constexpr double kInt4Bytes = 0.53125;  // of a weight: half a byte, and a multiplier for 32 of them

double larger(double a, double b) { return a > b ? a : b; }

double macs(const ConvInt8Weights& w, int64_t pixels) {
  return static_cast<double>(pixels) * w.n * w.taps * w.k;
}

// Of 4 x 4 outputs.
double winograd_tile_count(const ConvInt8Grid& grid) {
  const double rows = round_up(static_cast<int>(grid.rows), 4) / 4.0;
  return static_cast<double>(grid.images) * rows * round_up(static_cast<int>(grid.cols), 4) / 4.0;
}

// Of vectors of 8 sums. A position of a tile takes `product` for two input and 16 output channels, unless
// weights come in more slowly; 16 channels of a tile take 143 to transform as inputs, 310 as outputs. There
// are 8 times as many bytes of weights as in other rows: they count as read from memory, 4 bytes a cycle.
double winograd_cost(const ConvInt8Weights& w, const ConvInt8Grid& grid, double product) {
  const double tiles = winograd_tile_count(grid);
  const double outputs = round_up(w.n, 16) / 16.0, inputs = round_up(w.k, 16) / 16.0;
  const double blocks = std::ceil(tiles / conv_int8::winograd_tiles(w.k));
  const double products = 36.0 * tiles * outputs * inputs * 8.0 * product;
  const double bytes = 36.0 * 2.0 * 256.0 * outputs * inputs;
  const double stream = bytes > 512.0 * 1024.0 ? blocks * bytes / 4.0 : 0.0;
  return larger(products, stream) + tiles * (inputs * 143.0 + outputs * 310.0);
}

// Rows of 4 pixels: what 64 weights take for every 4 pixels and for each; then come the results and a copy of
// the inputs.
double int4_cost(const ConvInt8Weights& w, int64_t pixels, double per_strip, double per_pixel) {
  const double outputs = round_up(w.n, 16), inputs = w.taps * round_up(w.k, 32);
  const double strips = static_cast<double>((pixels + 3) / 4), count = static_cast<double>(pixels);
  const double products = outputs * inputs / 64.0 * (per_strip * strips + per_pixel * count);
  const double stream = strips * stream_cycles(outputs * inputs * kInt4Bytes);
  return larger(products, stream) + count * (outputs * 1.0 + w.taps * 20.0 + inputs / 8.0);
}

}  // namespace

double cost_conv_int8_u8s8s32_1x1x1__scalar(const ConvInt8Weights& w, double, const ConvInt8Grid& grid) {
  const int64_t pixels = grid.pixels();
  return macs(w, pixels) + 20.0 * static_cast<double>(pixels) * w.n;
}

#ifdef PYRUNTIME_HAVE_AVX2
// Fitted to 56 layers of ResNet-50 at 7 and 8 bits and of EfficientNet-Lite0, in the cycles of
// block4_64x1__avx2: of two rows that differ by more than 3 %, the dearer one was taken in none of them. The
// forms of MixedPanel differ in cycles per 32 MACs; a tile costs 1.35 pixels more than it has. Weights not at
// hand are taken for half narrow, half wide, as drawn ones of 8 bits are.
double cost_conv_int8_u8s8s32_5x16x4__avx2(const ConvInt8Weights& w, double, const ConvInt8Grid& grid) {
  const int64_t pixels = grid.pixels();
  conv_int8::MixedShares shares{0.0, 0.5, 0.5};
  if (w.w != nullptr) shares = conv_int8::estimate_mixed_shares(w);
  const double cycles = 0.81 * shares.paired + 1.01 * shares.narrow + 1.21 * shares.wide;
  const double inputs = w.taps * round_up(w.k, 4), outputs = round_up(w.n, 16);
  const double tiles = static_cast<double>((pixels + 4) / 5), count = static_cast<double>(pixels);
  const double products = outputs * inputs / 32.0 * (count + 1.35 * tiles);
  const double bytes = outputs * inputs * (1.3 + shares.wide);
  return larger(cycles * products + count * outputs / 8.0 * 5.3, stream_cycles(bytes));
}
#endif

#ifdef PYRUNTIME_HAVE_AVX2
// Fitted to layers of 7x7 to 56x56 pixels and 64 to 512 channels, in the cycles of 5x16x4__avx2.
double cost_conv_int8_u8s8s32_winograd4x4__avx2(const ConvInt8Weights& w, double, const ConvInt8Grid& grid) {
  return winograd_cost(w, grid, 1.45);
}
#endif

// Widening takes 3 instructions for every 4 that multiply and add.
double cost_conv_int8_u8s8s32_1x16x4__avx2(const ConvInt8Weights& w, double, const ConvInt8Grid& grid) {
  const int64_t pixels = grid.pixels();
  const double bytes = round_up(w.n, 16) * w.taps * round_up(w.k, 4);
  const double products = static_cast<double>(pixels) * (bytes / 32.0 * 2.2 + round_up(w.n, 16) * 1.5);
  return larger(products, static_cast<double>(pixels) * stream_cycles(bytes));
}

// The compiler does not vectorize the nibbles.
double cost_conv_int8_u8s4s32_1x16x32__scalar(const ConvInt8Weights& w, double, const ConvInt8Grid& grid) {
  const double products = round_up(w.n, 16) * w.taps * round_up(w.k, 32);
  return static_cast<double>(grid.pixels()) * (2.0 * products + 20.0 * w.n);
}

// Fitted to dense layers of 64 to 4096 channels at 1 to 49 pixels and to convolutions of 8x8 to 56x56, in the
// cycles of 5x16x4__avx2: 64 weights take 1.4 for every 4 pixels and 1.53 for each.
double cost_conv_int8_u8s4s32_4x16x32__avx2(const ConvInt8Weights& w, double, const ConvInt8Grid& grid) {
  return int4_cost(w, grid.pixels(), 1.4, 1.53);
}

#ifdef PYRUNTIME_HAVE_AVXVNNI
// In cycles of a Zen 5 core, at 1 to 196 pixels.
double cost_conv_int8_u8s4s32_4x16x32__avxvnni(const ConvInt8Weights& w, double, const ConvInt8Grid& grid) {
  return int4_cost(w, grid.pixels(), 0.75, 1.05);
}
#endif

// Six instructions besides the loads for 128 weights, two of them products.
double cost_conv_int8_u8s4s32_1x16x32__avx512vnni(const ConvInt8Weights& w, double,
                                                  const ConvInt8Grid& grid) {
  const double weights = round_up(w.n, 16) * w.taps * round_up(w.k, 32);
  const double products = weights / 128.0 * 4.0 + round_up(w.n, 16) * 0.5 + w.taps * round_up(w.k, 32) / 16.0;
  return static_cast<double>(grid.pixels()) * larger(products, stream_cycles(weights * kInt4Bytes));
}

// Two VPDPBUSD (32 MACs each) a cycle; 16 results take 2.5, a tile of up to 6 x 16 takes 5 more (Zen 5,
// layers of 7x7 to 112x112 pixels).
double cost_conv_int8_u8s8s32_6x16x4__avxvnni(const ConvInt8Weights& w, double, const ConvInt8Grid& grid) {
  const double pixels = static_cast<double>(grid.pixels()), tiles = std::ceil(pixels / 6.0);
  const double outputs = round_up(w.n, 16), inputs = w.taps * round_up(w.k, 4), bytes = outputs * inputs;
  const double products = pixels * bytes / 64.0 + outputs / 16.0 * (tiles * 5.0 + pixels * 2.5);
  return larger(products, stream_cycles(bytes));
}

// In the cycles of 6x16x4__avxvnni, on the layers of winograd4x4__avx2.
double cost_conv_int8_u8s8s32_winograd4x4__avxvnni(const ConvInt8Weights& w, double,
                                                   const ConvInt8Grid& grid) {
  return winograd_cost(w, grid, 1.0);
}

// Two VPDPBUSD (64 MACs each) a cycle, but L2 feeds no more than 40 bytes of weights a cycle; the epilogue
// takes about 3.5 cycles per 16 outputs, a tile of up to 14 x 32 about 40. A last panel of 8 counts as
// half where there is one (panel8.h).
double cost_conv_int8_u8s8s32_14x32x4__avx512vnni(const ConvInt8Weights& w, double,
                                                  const ConvInt8Grid& grid) {
  const double outputs = static_cast<double>(grid.pixels()) *
                         round_up(w.n, conv_int8::first_of_panel8(w.n, w.taps, w.k) < w.n ? 8 : 16);
  const double products = outputs * w.taps * round_up(w.k, 4) / 128.0;
  const double epilogue = outputs / 16.0 * 3.5 + outputs / (14.0 * 32.0) * 40.0;
  const double bytes = round_up(w.n, 16) * w.taps * round_up(w.k, 4);
  return larger(larger(1.1 * products, bytes / 40.0) + epilogue, stream_cycles(bytes));
}

// A VPDPWSSD (32 MACs) takes 0.6 cycles with all that belongs to it, a tile 180 for 32 channels of its
// inputs, 200 for 16 of its outputs. Weights, 8 times as many bytes as in other rows, come in at 3.4 bytes a
// cycle in whole networks (layers of 7x7 to 56x56 pixels), for all blocks but the first from L3 or nearer. A
// row that gains less than a tenth is not worth those bytes.
double cost_conv_int8_u8s8s32_winograd4x4__avx512vnni(const ConvInt8Weights& w, double,
                                                      const ConvInt8Grid& grid) {
  const double tiles = winograd_tile_count(grid);
  const double outputs = round_up(w.n, 16) / 16.0, inputs = round_up(w.k, 16) / 16.0;
  const double blocks = std::ceil(tiles / conv_int8::winograd_l2_tiles(w.k));
  const double products = 36.0 * tiles * outputs * inputs * 8.0 * 0.6;
  const double bytes = 36.0 * 2.0 * 256.0 * outputs * inputs;
  const double stream = bytes / 3.4 + (blocks - 1.0) * bytes / cpu_features().l3_bytes_per_cycle;
  return 1.1 * (larger(products, stream) + tiles * (round_up(w.k, 32) / 32.0 * 180.0 + outputs * 200.0));
}

// One TDPBUSD per 16 pixels x 16 channels x 64 k takes 16 cycles; loads and tails make it about 22. The
// epilogue of a tile counts 35: it runs beside the products of the next block, which do not hide all of it.
// Configuring and releasing tiles takes about 150 per call.
double cost_conv_int8_u8s8s32_32x32x64__amxint8(const ConvInt8Weights& w, double, const ConvInt8Grid& grid) {
  const double tiles = static_cast<double>((grid.pixels() + 15) / 16) * round_up(w.n, 16) / 16.0;
  const double chunks = static_cast<double>(w.taps) * round_up(w.k, 64) / 64.0;
  const double bytes = round_up(w.n, 16) * w.taps * round_up(w.k, 64);
  return larger(tiles * (22.0 * chunks + 35.0), stream_cycles(bytes)) + 150.0;
}

double cost_conv_int8_u8s8s32_32x32x64__amxint8_emulated(const ConvInt8Weights& w, double,
                                                         const ConvInt8Grid& grid) {
  return 10.0 * macs(w, grid.pixels());
}

}  // namespace pyruntime
