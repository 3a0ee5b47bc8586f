#include "bindings/call.hpp"

#include "bindings/arrays/device_array.hpp"
#include "bindings/gil.hpp"
#include "isa/plan_override.hpp"
#include "isa/registry.hpp"
#include "runtime/error.hpp"
#include "runtime/wake_policy.hpp"

namespace fusedrnn {

const Backend* device_of(py::handle value) { return as_device_array(value) != nullptr ? &device_backend() : nullptr; }

const Backend& backend_of(const Backend* device) { return device != nullptr ? *device : current_backend(); }

Memory::Memory(const Backend& backend, size_t bytes, const char* what) : backend_(backend), bytes_(bytes) {
  if (bytes == 0) return;
  if (backend.async == nullptr) {
    const Status status = backend.alloc(bytes, &data_);
    if (status == Status::out_of_memory) no_memory(what, bytes);
    check(backend, status, what);
    return;
  }
  block_ = Block::allocate(backend, bytes, what);
  data_ = block_->data();
}

Memory::~Memory() {
  if (block_ == nullptr && data_ != nullptr) backend_.free(data_);
}

void* Memory::used(Access access) const {
  if (block_ != nullptr) block_->use(access);
  return data_;
}

CallStream::CallStream(const Backend* device) : device_(device) {
  if (device_ == nullptr)
    lease_.emplace();
  else
    stream_ = current_stream();
}

void CallStream::offer(SequenceDesc& desc) {
  offer_threads(desc, threads());
  if (desc.threads == 1 || desc.row_groups > 0 || lease_->awake() || worth_waking(recurrent_flops(desc), desc.threads))
    return;
  Plan plan;
  check(current_backend(), current_backend().sequence->plan(&desc, &plan), "plan");
  if (plan.direction_groups * plan.row_groups * plan.unit_groups > 1) lease_->prewake();
  desc.threads = 1;
}

void CallStream::offer_to_pack(SequenceDesc& desc) {
  offer_threads(desc, threads());
  if (desc.threads == 1 || desc.row_groups > 0 || lease_->awake() || worth_waking(packing_flops(desc), desc.threads))
    return;
  lease_->prewake();
  desc.threads = 1;
}

void CallStream::finish() {
  finished_ = true;
  if (device_ != nullptr) mark_uses(*device_);
}

CallStream::~CallStream() {
  // A call that fails may have put work into the stream.
  if (device_ == nullptr || finished_) return;
  try {
    mark_uses(*device_);
  } catch (const std::exception&) {  // the call's own failure is on its way
  }
}

Result fresh_on(const Backend* device, Element element, const std::vector<int64_t>& sizes, const char* name) {
  if (device == nullptr) {
    py::array array = fresh(element, sizes, name);
    void* data = array.mutable_data();
    return {std::move(array), data};
  }
  DeviceArray array(*device, element, sizes, name);
  void* data = array.data();
  return {py::cast(std::move(array)), data};
}

Scalar::Scalar(const Backend* device, const char* name) {
  if (device != nullptr) result_ = fresh_on(device, Element::float64, {}, name);
}

const void* on_host(const void* from, size_t bytes, const Backend* device, std::vector<char>& kept, const char* what) {
  if (device == nullptr || bytes == 0) return from;
  kept.resize(bytes);
  const GilRelease release;
  copy_to_host(*device, kept.data(), from, bytes, what);
  return kept.data();
}

}  // namespace fusedrnn
