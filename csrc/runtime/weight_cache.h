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

  // The buffer of `key`; made by `pack` on first use. Different keys may be asked for at once; one key may
  // not, since a plan is made at a time and a node is prepared once in it.
  std::shared_ptr<const AlignedBuffer> get(const Key& key, const std::function<AlignedBuffer()>& pack) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      const auto found = buffers_.find(key);
      if (found != buffers_.end()) return found->second;
    }
    auto made = std::make_shared<const AlignedBuffer>(pack());
    std::lock_guard<std::mutex> lock(mutex_);
    return buffers_.emplace(key, std::move(made)).first->second;
  }

 private:
  std::mutex mutex_;
  std::map<Key, std::shared_ptr<const AlignedBuffer>> buffers_;
};

}  // namespace pyruntime
