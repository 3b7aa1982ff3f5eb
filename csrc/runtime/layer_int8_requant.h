// The epilogue of integer layers, as the sources of Int8Layer share it.
#pragma once

#include "kernels/requantize.h"
#include "runtime/layer.h"

namespace pyruntime {

// Per-channel arrays, readable up to 64 entries past any group's end, and the scalars of the epilogue.
struct Int8Layer::Requant {
  std::vector<int32_t> acc_init;
  std::vector<float> multiplier, offset;
  float lo, hi;
  bool f32_output = false;
  float a_multiplier = 1.0f, b_multiplier = 0.0f, add_offset = 0.0f, add_lo = 0.0f, add_hi = 255.0f;

  Requantize arguments(int64_t first_channel) const {
    Requantize r;
    r.acc_init = acc_init.data() + first_channel;
    r.multiplier = multiplier.data() + first_channel;
    r.offset = offset.data() + first_channel;
    r.lo = lo;
    r.hi = hi;
    r.f32_output = f32_output;
    r.a_multiplier = a_multiplier;
    r.b_multiplier = b_multiplier;
    r.add_offset = add_offset;
    r.add_lo = add_lo;
    r.add_hi = add_hi;
    return r;
  }
};

}  // namespace pyruntime
