// An array in the memory of the CUDA plugin's device, as Python sees it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bindings/array.hpp"

namespace fusedrnn {

// Its contents are complete whenever Python can see it: every call that writes one waits for its stream. So nobody
// needs to wait for anything that is handed out, and what is handed in need not be kept longer than its call.
class DeviceArray {
 public:
  // A new one of the backend's memory, not initialised. MemoryError where there is not that much.
  DeviceArray(const Backend& backend, Element element, std::vector<int64_t> sizes, const char* name);

  // Part of this array, which must be contiguous: `sizes` from element `offset` on.
  DeviceArray piece(int64_t offset, std::vector<int64_t> sizes, bool readonly) const;

  // Somebody else's memory on the calling thread's device, kept as long as `owner` is. Strides in elements.
  DeviceArray(const Backend& backend, Element element, std::vector<int64_t> sizes, std::vector<int64_t> strides,
              void* data, bool readonly, std::shared_ptr<void> owner);

  const Backend& backend() const { return *backend_; }
  Element element() const { return element_; }
  const std::vector<int64_t>& sizes() const { return sizes_; }
  const std::vector<int64_t>& strides() const { return strides_; }
  void* data() const { return data_; }
  bool readonly() const { return readonly_; }
  const std::shared_ptr<void>& owner() const { return owner_; }
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
  std::shared_ptr<void> owner_;
  int32_t device_;
};

// "cuda:0"
std::string place_of(const Backend& backend, int32_t device);

// ValueError unless `device`, where `name` is, is the calling thread's; -1 is no device.
void require_device(const std::string& name, const Backend& backend, int32_t device);

// The CUDA stream of the calling thread: what its calls run on. They wait for it before they return.
Stream current_stream();

// The device's table: RuntimeError with the reason where CUDA cannot be used.
const Backend& device_backend();

// For checks: the device array that `value` is, nullptr where it is none.
const DeviceArray* as_device_array(py::handle value);

// Bytes from the first element to the end of the last.
size_t span_of(const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides, int64_t bytes);

// DLPack's capsules, in device_exchange.cpp.
py::object to_dlpack(const DeviceArray& array, py::handle max_version);
DeviceArray from_dlpack(const py::capsule& capsule);
DeviceArray from_cuda_array_interface(const py::dict& interface, py::object owner);

}  // namespace fusedrnn
