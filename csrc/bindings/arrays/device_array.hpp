// An array in the memory of the CUDA plugin's device, as Python sees it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bindings/arrays/argument.hpp"
#include "device/stream_memory.hpp"

namespace fusedrnn {

// Its contents are complete when the work is done that its block knows of (stream_memory.hpp): Python sees it sooner.
class DeviceArray {
 public:
  // A new one of the backend's memory, not initialised. MemoryError where there is not that much.
  DeviceArray(const Backend& backend, Element element, std::vector<int64_t> sizes, const char* name);

  // Part of this array, which must be contiguous: `sizes` from element `offset` on.
  DeviceArray piece(int64_t offset, std::vector<int64_t> sizes, bool readonly) const;

  // What is in a block on the calling thread's device. Strides in elements.
  DeviceArray(const Backend& backend, Element element, std::vector<int64_t> sizes, std::vector<int64_t> strides,
              bool readonly, std::shared_ptr<Block> block);

  const Backend& backend() const { return *backend_; }
  Element element() const { return element_; }
  const std::vector<int64_t>& sizes() const { return sizes_; }
  const std::vector<int64_t>& strides() const { return strides_; }
  void* data() const { return data_; }
  bool readonly() const { return readonly_; }
  const std::shared_ptr<Block>& block() const { return block_; }
  int32_t device() const { return device_; }
  int64_t count() const;
  bool contiguous() const;

  py::array numpy() const;         // a copy in host memory
  DeviceArray copy() const;        // contiguous
  void assign(py::handle source);  // from a NumPy or device array of equal shape and element
  void fill(double value);

 private:
  const Backend* backend_;
  Element element_;
  std::vector<int64_t> sizes_, strides_;
  void* data_ = nullptr;
  bool readonly_ = false;
  std::shared_ptr<Block> block_;
  int32_t device_;
};

// "cuda:0"
std::string place_of(const Backend& backend, int32_t device);

// ValueError unless `device`, where `name` is, is the calling thread's; -1 is no device.
void require_device(const std::string& name, const Backend& backend, int32_t device);

// The device's table: RuntimeError with the reason where CUDA cannot be used.
const Backend& device_backend();

// For checks: the device array that `value` is, nullptr where it is none.
const DeviceArray* as_device_array(py::handle value);

// Bytes from the first element to the end of the last.
size_t span_of(const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides, int64_t bytes);

// DLPack's capsules, in device_exchange.cpp. A consumer without a stream orders its own work.
py::object to_dlpack(const DeviceArray& array, const std::optional<Stream>& consumer, py::handle max_version);
DeviceArray from_dlpack(const py::capsule& capsule);
DeviceArray from_cuda_array_interface(const py::dict& interface, py::object owner);

}  // namespace fusedrnn
