// Convolution and dense layers: what `conv` and `dense` share. An output pixel grid, taps, and a kernel row.
#pragma once

#include "kernels/conv_int8/conv_int8.h"
#include "runtime/layer_split.h"
#include "runtime/operator.h"
#include "runtime/weight_counts.h"

namespace pyruntime {

// n output channels; every group has k input and n / groups output channels.
struct LayerShape {
  int64_t n = 0, k = 0, kh = 1, kw = 1, groups = 1;
  int64_t taps() const { return kh * kw; }
  int64_t group_n() const { return n / groups; }
  bool depthwise() const { return groups > 1 && k == 1 && n == groups; }
};

// u8 x s8 layers: inputs x, w, multiplier, offset, residual (optional).
class Int8Layer {
 public:
  Int8Layer(const NodeInfo& info, const LayerShape& shape);
  // `residual` is input 4.
  Step prepare(const PlanContext& context, LayerGrid grid) const;

 private:
  // One way to hand the layer to a kernel: `merge` groups run as one (weights off the diagonal are zero), and
  // the taps of a row may be `folded` into one tap of kw * k channels, which are contiguous in memory.
  struct Packing {
    int64_t merge, groups, n, taps, k;  // n and k per merged group
    bool folded;
    double weights, blocks;  // fractions of nonzero weights and of nonzero blocks of 4 channels
    bool fits_int4, fits_winograd;
  };
  // A row on one packing.
  struct Choice {
    const ConvInt8Kernel* kernel = nullptr;
    const Packing* packing = nullptr;
    double cycles = 0.0;                         // of the whole layer
    int64_t pixel_parts = 0, channel_parts = 0;  // 0: as costs say
  };
  // `all` counts all weights in the order in which they stand in memory.
  Packing make_packing(int64_t merge, bool folded, const WeightCounts& all) const;
  const int8_t* in_memory(int64_t merge) const;  // the matrix, if the constant stands in its order, or null
  // [n][taps][k] of all merged groups: where the constant stands in that order, or made in `made`.
  const int8_t* matrix(int64_t merge, std::vector<int8_t>* made) const;
  std::vector<Choice> usable_rows(const PlanContext& context, const LayerGrid& grid) const;
  // The cheapest one, or that of the tuning. `report`: of start_report().
  Choice choose(const PlanContext& context, const std::vector<Choice>& usable,
                const StepTuning* report) const;
  // What a row of pixels, or rows of them, is cut into.
  int64_t pixel_block(const Choice& choice, const LayerGrid& grid) const;
  LayerSplit split(const PlanContext& context, const Choice& choice, const LayerGrid& grid,
                   size_t packed_bytes) const;
  std::shared_ptr<const AlignedBuffer> pack(const PlanContext& context, const Choice& choice,
                                            std::vector<size_t>* group_offset) const;
  Step prepare_groups(const PlanContext& context, const LayerGrid& grid) const;
  Step prepare_depthwise(const PlanContext& context, const LayerGrid& grid) const;

  // Signature, and whether the tuning knows it; null without a tuning.
  std::shared_ptr<StepTuning> start_report(const PlanContext& context, const LayerGrid& grid) const;
  // What the tuning says, or null.
  static const LayerChoice* tuned_choice(const PlanContext& context, const StepTuning* report);
  void report_choice(const PlanContext& context, const LayerGrid& grid, const Choice& choice,
                     const LayerSplit& split, const std::vector<Choice>& usable, StepTuning* report) const;
  static void report_split(LayerChoice choice, const LayerSplit& split, StepTuning* report);
  static void report_divisions(LayerChoice choice, const std::vector<LayerSplit>& splits, StepTuning* report);
  std::string signature(const PlanContext& context, const LayerGrid& grid) const;
  [[noreturn]] void fail_tuned(const LayerChoice& wanted) const;
  struct Requant;

  NodeInfo info_;
  LayerShape shape_;
  std::shared_ptr<const Requant> requant_;
  std::vector<Packing> packings_;  // those worth a try
  int64_t largest_sum_ = 0;        // as fits_winograd() takes it
};

// float32 layers: inputs x, w, bias (optional), residual (optional).
class F32Layer {
 public:
  F32Layer(const NodeInfo& info, const LayerShape& shape);
  // `residual` is input 3.
  Step prepare(const PlanContext& context, LayerGrid grid) const;

 private:
  Step prepare_groups(const PlanContext& context, const LayerGrid& grid) const;
  Step prepare_depthwise(const PlanContext& context, const LayerGrid& grid) const;

  NodeInfo info_;
  LayerShape shape_;
  std::shared_ptr<const std::vector<float>> bias_;  // padded
  float lo_ = 0.0f, hi_ = 0.0f;
};

// True if the kw taps of a row and their k channels are one run of memory of `item`-byte elements.
bool taps_fold(const LayerShape& shape, const LayerGrid& grid, int64_t item);

// Offsets of the taps in (kh, kw) order, relative to the pixel. Throws Error if one does not fit 32 bits.
std::vector<int32_t> tap_offsets(const LayerShape& shape, const LayerGrid& grid);

// The nearest float below the smallest normal one is zero: subnormal weights only cost time.
inline float flush_subnormal(float v) { return (v < 1.17549435e-38f && v > -1.17549435e-38f) ? 0.0f : v; }

}  // namespace pyruntime
