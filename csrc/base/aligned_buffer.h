// Owned memory, 64-byte aligned; large buffers are aligned to huge pages so that the kernel can use them.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace pyruntime {

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t bytes) : size_(bytes) {
    if (bytes == 0) return;
    const size_t alignment = bytes >= kHugePage ? kHugePage : 64;
    const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    if (rounded < bytes) throw std::bad_alloc();
    if (posix_memalign(&data_, alignment, rounded) != 0) throw std::bad_alloc();
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (alignment == kHugePage) madvise(data_, rounded, MADV_HUGEPAGE);
#endif
  }
  // Part of a larger buffer, which it keeps alive.
  AlignedBuffer(std::shared_ptr<const AlignedBuffer> whole, size_t offset, size_t bytes)
      : data_(whole->data() + offset), size_(bytes), whole_(std::move(whole)) {}
  ~AlignedBuffer() {
    if (!whole_) std::free(data_);
  }
  AlignedBuffer(AlignedBuffer&& o) noexcept { swap(o); }
  AlignedBuffer& operator=(AlignedBuffer&& o) noexcept {
    swap(o);
    return *this;
  }
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;

  static constexpr size_t kHugePage = size_t{2} << 20;

  char* data() const { return static_cast<char*>(data_); }
  size_t size() const { return size_; }

 private:
  void swap(AlignedBuffer& o) {
    std::swap(data_, o.data_);
    std::swap(size_, o.size_);
    whole_.swap(o.whole_);
  }
  void* data_ = nullptr;
  size_t size_ = 0;
  std::shared_ptr<const AlignedBuffer> whole_;
};

}  // namespace pyruntime
