// Cost models of the sparse rows, in cycles of one core. Those of AVX-512 are fitted to a Zen 4 core (3.7
// GHz, 32 KB L1d, 1 MB L2) on 4096x4096 layers at 10-30 % density and on 3x3 and 1x1 convolutions of 7x7 to
// 28x28 maps at 10-50 %; that of block4_40x1__avx2 to a Zen 3 core on the convolutions of EfficientNet-Lite0
// and of ResNets at 10-100 %.
#include <algorithm>
#include <cmath>

#include "kernels/conv_int8/cost.h"

namespace pyruntime {
namespace {

// Beyond the densities that were measured a sparse row counts twice, so that it must promise half the time.
double doubt(double density) { return density > 0.6 ? 2.0 : 1.0; }

double inputs(const ConvInt8Weights& w) { return static_cast<double>(w.taps) * ((w.k + 3) / 4 * 4); }

// Slots of sparse_lanes.h are as many as the fullest of 16 channels needs: `units` per window on average,
// plus a spread.
double lanes_cost(const ConvInt8Weights& w, double density, int64_t pixels, double units_per_window,
                  double spread, double bytes_per_unit) {
  const double units = units_per_window * density;
  const double padding = units > 0.0 ? 1.0 + spread / std::sqrt(units) : 1.0;
  const double windows = std::ceil(inputs(w) / 128.0);
  const double slot_bytes = w.n * windows * units * padding * bytes_per_unit;
  // A slot of up to 128 bytes takes about 1.5 cycles from L1/L2; L3 feeds 25 bytes a cycle.
  const double bytes_per_cycle = slot_bytes > 512.0 * 1024.0 ? 25.0 : 60.0;
  return static_cast<double>(pixels) *
         (slot_bytes / bytes_per_cycle + w.n / 16.0 * (4.0 + windows) + inputs(w) / 32.0 + 20.0);
}

}  // namespace

// A weight of a block costs what 5.5 weights cost in the dense row, whose inner loop the compiler vectorizes.
double cost_conv_int8_u8s8s32_block4_1x1__scalar(const ConvInt8Weights& w, double density, int64_t pixels) {
  return static_cast<double>(pixels) * (w.n * inputs(w) * density * 5.5 + w.n * 20.0 + inputs(w) / 8.0);
}

double cost_conv_int8_u8s8s32_block4_1x16__avx512vnni(const ConvInt8Weights& w, double density,
                                                      int64_t pixels) {
  return doubt(density) * lanes_cost(w, density, pixels, 32.0, 1.8, 5.0);
}

double cost_conv_int8_u8s8s32_bitmask_1x16__avx512vnni(const ConvInt8Weights& w, double density,
                                                       int64_t pixels) {
  return doubt(density) * lanes_cost(w, density, pixels, 128.0, 2.2, 2.0);
}

double cost_conv_int8_u8s8s32_block4_64x1__avx512vnni(const ConvInt8Weights& w, double density,
                                                      int64_t pixels) {
  const double vectors = std::min(4.0, std::ceil(static_cast<double>(pixels) / 16.0));
  const double strips = std::ceil(static_cast<double>(pixels) / (vectors * 16.0));
  const double blocks = w.n * inputs(w) / 4.0 * density;
  const double products = strips * (blocks * (vectors + 0.5) + w.n * 8.0);
  const double transposed = strips * vectors * 16.0 * inputs(w) / 4.0 * 0.35;
  return doubt(density) * (products + transposed + static_cast<double>(pixels) * w.n / 16.0 * 10.0);
}

// 5.5 cycles for a slot of 8 blocks; one in ten is padding or the half of a split block.
double cost_conv_int8_u8s8s32_block4_1x8__avx2(const ConvInt8Weights& w, double density, int64_t pixels) {
  const double slots = w.n / 8.0 * inputs(w) / 4.0 * density * 1.1;
  return static_cast<double>(pixels) * (slots * 5.5 + w.n * 2.0 + inputs(w) / 32.0 + 20.0);
}

// Fitted to 101 layers of 7x7 to 112x112 pixels: of two rows that differ by more than 3 %, it takes the
// slower one in four layers, and loses 12 % at most. Of the blocks one in eight is split in two. Inputs that
// leave the first-level cache take a quarter more time.
double cost_conv_int8_u8s8s32_block4_40x1__avx2(const ConvInt8Weights& w, double density, int64_t pixels) {
  const double input_blocks = inputs(w) / 4.0, vectors = std::ceil(static_cast<double>(pixels) / 8.0);
  const double most = std::min(5.0, std::max(1.0, std::floor(160.0 * 1024.0 / (input_blocks * 32.0))));
  const double strips = std::ceil(vectors / most), together = std::ceil(vectors / strips);
  const double blocks = w.n * input_blocks * density * 1.12;
  const double per_block = input_blocks * together * 32.0 > 32.0 * 1024.0 ? 1.26 : 1.0;
  return blocks * (vectors * per_block + strips * 0.5) + strips * w.n * 13.0 +
         static_cast<double>(pixels) * (input_blocks * 0.7 + w.n / 8.0 * 11.0);
}

}  // namespace pyruntime
