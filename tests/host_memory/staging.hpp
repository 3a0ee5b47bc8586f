// Arguments in host memory, carried into a device's memory for the length of one call and back.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "backend/backend.hpp"

namespace fusedrnn::host_memory {

// Elements of `bytes` each: `sizes` along axes with these strides, then rows of `width` with unit stride.
struct Extent {
  int64_t bytes;
  int64_t width;
  std::vector<int64_t> sizes, strides;

  int64_t rows() const;
  size_t span() const;  // bytes from the first element to the end of the last, gaps included; 0 without elements
};

Extent contiguous(int64_t bytes, int64_t count);

// One call: take device addresses for every argument, run, `finish`. A call waits for the one before to end. Blocks
// keep strides and gaps, and are as large as what they hold, so that a kernel meets the addresses it would meet in
// device memory, and no byte more.
//
// After the call outputs are copied back, elements only. Inputs are compared with what went in: an input that a kernel
// wrote to is a failure, which copies would otherwise hide.
class Staging {
 public:
  Staging(const Backend& device, Stream stream) : device_(device), stream_(stream) {}
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // Read by the call; nullptr stays nullptr. An array without elements has an address all the same.
  template <class T>
  T* in(T* host, const Extent& extent) {
    return static_cast<T*>(take(const_cast<void*>(static_cast<const void*>(host)), extent, Use::read));
  }
  // Written without being read.
  template <class T>
  T* out(T* host, const Extent& extent) {
    return static_cast<T*>(take(host, extent, Use::written));
  }
  // Added into.
  template <class T>
  T* update(T* host, const Extent& extent) {
    return static_cast<T*>(take(host, extent, Use::updated));
  }
  Array3 in(const Array3& a, int64_t bytes, int64_t size0, int64_t size1, int64_t width);
  Array3 out(const Array3& a, int64_t bytes, int64_t size0, int64_t size1, int64_t width);
  Strided in(const Strided& s, int64_t bytes);
  void* scratch(size_t bytes);

  // `run()` is the device's call. Its Status, or the first failure of a copy.
  template <class Run>
  Status finish(Run run) {
    if (status_ != Status::ok) return status_;
    const Status status = run();
    return status != Status::ok ? status : bring_back();
  }

  // What a failure of the calling thread was; nullptr where it was the device's own, whose status_text says more.
  static const char* failure();

 private:
  enum class Use { read, written, updated };
  struct Block {
    char* host;
    char* device;
    Extent extent;
    Use use;
  };

  void* take(void* host, const Extent& extent, Use use);
  Status bring_back();

  static inline std::mutex mutex_;
  const std::lock_guard<std::mutex> alone_{mutex_};
  const Backend& device_;
  Stream stream_;
  Status status_ = Status::ok;
  std::vector<Block> blocks_;
};

}  // namespace fusedrnn::host_memory
