// Packed weights of a session, shared by its plans. Key: node, kernel row, variant.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>

#include "base/aligned_buffer.h"

namespace pyruntime {

class WeightCache {
 public:
  using Key = std::tuple<int, const void*, int>;

  // The buffer of `key`; made by `pack` on first use.
  std::shared_ptr<const AlignedBuffer> get(const Key& key, const std::function<AlignedBuffer()>& pack) {
    std::lock_guard<std::mutex> lock(mutex_);
    std::shared_ptr<const AlignedBuffer>& slot = buffers_[key];
    if (!slot) slot = std::make_shared<const AlignedBuffer>(pack());
    return slot;
  }

 private:
  std::mutex mutex_;
  std::map<Key, std::shared_ptr<const AlignedBuffer>> buffers_;
};

}  // namespace pyruntime
