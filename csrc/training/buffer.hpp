// Memory that a training step keeps: it grows when a larger shape comes and is never given back before the end.
#pragma once

#include <atomic>

#include "backend/backend.hpp"
#include "runtime/error.hpp"

namespace fusedrnn::training {

class Buffer {
 public:
  explicit Buffer(const Backend& backend) : backend_(backend) {}
  ~Buffer() { backend_.free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  // Room for `bytes`; what was in it is lost if it must grow. Throws std::bad_alloc.
  void reserve(size_t bytes) {
    if (bytes <= bytes_) return;
    backend_.free(data_);
    data_ = nullptr;
    bytes_ = 0;
    check(backend_, backend_.alloc(bytes, &data_), "train_step");
    bytes_ = bytes;
    made.fetch_add(1, std::memory_order_relaxed);
  }

  // How often any of them has grown: as long as that stays, so do their addresses.
  static uint64_t growths() { return made.load(std::memory_order_relaxed); }

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  static inline std::atomic<uint64_t> made{0};

  const Backend& backend_;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace fusedrnn::training
