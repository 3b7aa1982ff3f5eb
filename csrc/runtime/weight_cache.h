// Packed weights of a session, shared by its plans. Key: node, kernel row, variant.
//
// They lie side by side in huge pages: to get small pages from the system takes longer than to pack into
// them.
#pragma once

#include <algorithm>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

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

  // Memory for `pack`, uninitialized.
  AlignedBuffer allocate(size_t bytes) {
    constexpr size_t kGranule = AlignedBuffer::kHugePage;
    const size_t rounded = (bytes + 63) / 64 * 64;
    std::lock_guard<std::mutex> lock(mutex_);
    auto room = [&](const Chunk& c) { return c.memory->size() - c.used >= rounded; };
    auto chunk = std::find_if(chunks_.begin(), chunks_.end(), room);
    if (chunk == chunks_.end()) {
      const size_t size = std::max<size_t>((rounded + kGranule - 1) / kGranule, 1) * kGranule;
      chunks_.push_back({std::make_shared<const AlignedBuffer>(size), 0});
      chunk = std::prev(chunks_.end());
    }
    const size_t offset = chunk->used;
    chunk->used += rounded;
    return {chunk->memory, offset, bytes};
  }

 private:
  struct Chunk {
    std::shared_ptr<const AlignedBuffer> memory;
    size_t used;
  };

  std::vector<Chunk> chunks_;
  std::mutex mutex_;
  std::map<Key, std::shared_ptr<const AlignedBuffer>> buffers_;
};

}  // namespace pyruntime
