// Cost models of the rows: estimated cycles of one core. Built for the baseline, since plans ask before they
// choose.
#include "kernels/conv_int8/cost.h"

namespace pyruntime {
namespace {

double macs(const ConvInt8Weights& w, int64_t pixels) {
  return static_cast<double>(pixels) * w.n * w.taps * w.k;
}

}  // namespace

double cost_conv_int8_u8s8s32_1x1x1__scalar(const ConvInt8Weights& w, double, int64_t pixels) {
  return macs(w, pixels) + 20.0 * static_cast<double>(pixels) * w.n;
}

}  // namespace pyruntime
