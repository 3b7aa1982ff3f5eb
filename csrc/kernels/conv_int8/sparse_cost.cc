// Cost models of the sparse rows, in cycles of one core. Those of few pixels on AVX-512 count instructions
// and loads for a core that does two VPDPBUSD and two 64-byte loads a cycle; that of block4_64x1__avx2 was
// fitted to a Zen 3 core on the convolutions of EfficientNet-Lite0 and of ResNets at 10-100 %.
#include <algorithm>
#include <cmath>

#include "base/cpu_features.h"
#include "kernels/conv_int8/cost.h"
#include "kernels/conv_int8/twin_window.h"

namespace pyruntime {
namespace {

// Beyond the densities that were measured a sparse row counts twice, so that it must promise half the time.
double doubt(double density) { return density > 0.6 ? 2.0 : 1.0; }

double round_up(int value, int granule) {
  return static_cast<double>((value + granule - 1) / granule * granule);
}

double inputs(const ConvInt8Weights& w) { return static_cast<double>(w.taps) * ((w.k + 3) / 4 * 4); }

// Slots of sparse_lanes.h: what the weights fill, and `spread` lanes' worth per window of 128 inputs that
// stay empty (counted on random weights of 5 to 50 % density). A slot takes 7 accesses to L1, two of its
// loads cross cache lines: 3.5 cycles at two a cycle.
double lanes_cost(const ConvInt8Weights& w, double density, int64_t pixels, double spread,
                  double bytes_per_slot) {
  const double groups = std::ceil(w.n / 16.0);
  const double slots = density > 0.0 ? groups * inputs(w) / 4.0 * (density + spread / 32.0) : 0.0;
  const double bytes = slots * bytes_per_slot;
  const double products =
      std::max(slots * 3.5, bytes > 512.0 * 1024.0 ? bytes / cpu_features().l3_bytes_per_cycle : 0.0);
  return static_cast<double>(pixels) * (products + groups * 25.0 + inputs(w) / 32.0 + 20.0);
}

// Vectors of 8 pixels, and strips of at most `most` of them whose inputs are to fit input_bytes.
struct PixelStrips {
  double vectors, strips;
  double input_bytes;  // of a strip
};

PixelStrips pixel_strips(const ConvInt8Weights& w, int64_t pixels, double most, double input_bytes) {
  const double vector_bytes = inputs(w) / 4.0 * 32.0;
  const double vectors = std::ceil(static_cast<double>(pixels) / 8.0);
  const double strips =
      std::ceil(vectors / std::min(most, std::max(1.0, std::floor(input_bytes / vector_bytes))));
  return {vectors, strips, vector_bytes * std::ceil(vectors / strips)};
}

}  // namespace

// A weight of a block costs what 5.5 weights cost in the dense row, whose inner loop the compiler vectorizes.
double cost_conv_int8_u8s8s32_block4_1x1__scalar(const ConvInt8Weights& w, double density,
                                                 const ConvInt8Grid& grid) {
  return static_cast<double>(grid.pixels()) *
         (w.n * inputs(w) * density * 5.5 + w.n * 20.0 + inputs(w) / 8.0);
}

double cost_conv_int8_u8s8s32_block4_1x16__avx512vnni(const ConvInt8Weights& w, double density,
                                                      const ConvInt8Grid& grid) {
  return doubt(density) * lanes_cost(w, density, grid.pixels(), 1.3, 81.0);
}

double cost_conv_int8_u8s8s32_bitmask_1x16__avx512vbmi(const ConvInt8Weights& w, double density,
                                                       const ConvInt8Grid& grid) {
  return doubt(density) * lanes_cost(w, density, grid.pixels(), 0.5, 129.0);
}

// Fitted to 27 layers of 4x4 to 112x112 pixels at densities of 5 to 40 % on a Cascade Lake core (32 KB of
// L1), in the cycles of 14x32x4; of 108 cases four are off by more than 16 %. A block and pixel vector takes
// 0.4 to 1.07, as the inputs of a strip fill L1; sums that wait from a chunk to the next take 12.5.
double cost_conv_int8_u8s8s32_block4_112x2__avx512vnni(const ConvInt8Weights& w, double density,
                                                       const ConvInt8Grid& grid) {
  const bool shared = grid.window && w.taps > 1;
  const double channels = round_up(w.n, 16), tap_blocks = (w.k + 3) / 4,
               chunks = conv_int8::twin_chunks(w.taps, w.k);
  double vectors = std::ceil(static_cast<double>(grid.pixels()) / 16.0), strips = std::ceil(vectors / 7.0);
  double transposed = vectors * w.taps * tap_blocks, input_vectors = vectors / strips * w.taps * tap_blocks;
  if (shared) {
    conv_int8::TwinWindow window;
    conv_int8::choose_twin_lanes(static_cast<int>(grid.rows), static_cast<int>(grid.cols), &window);
    const double rows = static_cast<double>(grid.images) * window.rows;
    vectors = rows * window.cols;
    strips = rows * conv_int8::twin_strips(window.cols);
    transposed = (rows + 2.0) * (window.cols + 2.0) * tap_blocks;
    input_vectors = 3.0 * (window.cols + 2.0) * tap_blocks;
  }
  const double filled = std::min(1.0, input_vectors * 64.0 / chunks / (42.0 * 1024.0));
  const double blocks = channels * w.taps * tap_blocks * density;
  return doubt(density) *
         (blocks * (vectors * (0.4 + 0.67 * filled) + strips * 1.9) +
          channels * vectors * (6.0 + 12.5 * (chunks - 1.0)) + transposed * 9.0 + vectors * 280.0);
}

// 5.5 cycles for a slot of 8 blocks; one in ten is padding or the half of a split block.
double cost_conv_int8_u8s8s32_block4_1x8__avx2(const ConvInt8Weights& w, double density,
                                               const ConvInt8Grid& grid) {
  const double slots = w.n / 8.0 * inputs(w) / 4.0 * density * 1.1;
  return static_cast<double>(grid.pixels()) * (slots * 5.5 + w.n * 2.0 + inputs(w) / 32.0 + 20.0);
}

// Fitted to 101 layers of 7x7 to 112x112 pixels: of two rows that differ by more than 3 %, it takes the
// slower one in four layers, and loses 12 % at most. Of the blocks one in eight is split in two. Inputs that
// leave the first-level cache take a quarter more time. (Strips were of 5 vectors then and results took 11,
// not 10.)
double cost_conv_int8_u8s8s32_block4_64x1__avx2(const ConvInt8Weights& w, double density,
                                                const ConvInt8Grid& grid) {
  const PixelStrips p = pixel_strips(w, grid.pixels(), 8.0, 160.0 * 1024.0);
  const double blocks = w.n * inputs(w) / 4.0 * density * 1.12;
  const double per_block = p.input_bytes > 32.0 * 1024.0 ? 1.26 : 1.0;
  return blocks * (p.vectors * per_block + p.strips * 0.5) + p.strips * w.n * 13.0 +
         static_cast<double>(grid.pixels()) * (inputs(w) / 4.0 * 0.7 + w.n / 8.0 * 10.0);
}

#ifdef PYRUNTIME_HAVE_AVXVNNI
// As that of block4_1x8__avx2, without split blocks.
double cost_conv_int8_u8s8s32_block4_1x8__avxvnni(const ConvInt8Weights& w, double density,
                                                  const ConvInt8Grid& grid) {
  const double slots = w.n / 8.0 * inputs(w) / 4.0 * density;
  return static_cast<double>(grid.pixels()) * (slots * 5.4 + w.n * 2.2 + inputs(w) / 32.0 + 20.0);
}

// Fitted to 24 layers of 2x2 to 112x112 pixels at densities of 5 to 40 % on a Zen 5 core, in its cycles: nine
// of ten are within 7 %.
double cost_conv_int8_u8s8s32_block4_96x1__avxvnni(const ConvInt8Weights& w, double density,
                                                   const ConvInt8Grid& grid) {
  const PixelStrips p = pixel_strips(w, grid.pixels(), 12.0, 280.0 * 1024.0);
  const double per_block = p.input_bytes > 40.0 * 1024.0 ? 0.71 : 0.6;
  return w.n * inputs(w) / 4.0 * density * (p.vectors * per_block + p.strips * 0.6) + p.strips * w.n * 8.7 +
         static_cast<double>(grid.pixels()) * (inputs(w) / 4.0 * 0.24 + w.n / 8.0 * 4.3 + 6.3);
}
#endif

}  // namespace pyruntime
