// A block of memory handed out piece by piece; the same code counts its bytes and finds its pieces.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace fusedrnn::FUSEDRNN_ISA {

// Hands out aligned pieces of a block, or only counts them when the block is null.
class Arena {
 public:
  explicit Arena(void* base) : base_(static_cast<char*>(base)) {}

  template <class T>
  T* take(int64_t elements) {
    const size_t at = used_;
    used_ += (static_cast<size_t>(elements) * sizeof(T) + 63) / 64 * 64;
    return base_ ? reinterpret_cast<T*>(base_ + at) : nullptr;
  }
  size_t used() const { return used_; }

 private:
  char* base_;
  size_t used_ = 0;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
