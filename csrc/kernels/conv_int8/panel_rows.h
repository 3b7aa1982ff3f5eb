// The weights of 16 output channels as rows of whole groups of 4 input channels: what the panel packings
// read.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/conv_int8/conv_int8.h"

namespace pyruntime {
namespace conv_int8 {

class PanelRows {
 public:
  explicit PanelRows(const ConvInt8Weights& weights)
      : weights_(weights),
        groups_((weights.k + 3) / 4),
        zeros_(row_bytes(), 0),
        padded_(weights.k % 4 == 0 ? 0 : 16 * row_bytes(), 0) {}

  int groups() const { return groups_; }  // per tap
  size_t row_bytes() const { return static_cast<size_t>(weights_.taps) * groups_ * 4; }

  // Turns to the channels from 16 * panel on. Missing channels, of output or input, are zero.
  void move_to(int panel) {
    const size_t row = static_cast<size_t>(weights_.taps) * weights_.k;
    for (int i = 0; i < 16; ++i) {
      const int o = 16 * panel + i;
      rows_[i] = o < weights_.n ? weights_.w + o * row : zeros_.data();
      if (o >= weights_.n || padded_.empty()) continue;
      int8_t* to = padded_.data() + i * row_bytes();
      for (int t = 0; t < weights_.taps; ++t)
        std::memcpy(to + static_cast<size_t>(t) * groups_ * 4, rows_[i] + static_cast<size_t>(t) * weights_.k,
                    static_cast<size_t>(weights_.k));
      rows_[i] = to;
    }
  }

  const int8_t* const* rows() const { return rows_; }

  // The 4 weights of channel i and group `group` of all taps, as they stand in memory.
  uint32_t group(int i, size_t group) const {
    uint32_t four;
    std::memcpy(&four, rows_[i] + 4 * group, 4);
    return four;
  }

 private:
  const ConvInt8Weights& weights_;
  int groups_;
  std::vector<int8_t> zeros_, padded_;
  const int8_t* rows_[16] = {};
};

}  // namespace conv_int8
}  // namespace pyruntime
