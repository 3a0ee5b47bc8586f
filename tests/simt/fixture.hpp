// What the emulator's tests share: device arrays, launches under many schedules, and the check that one fails as it
// should.
#pragma once

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "../native/check.hpp"
#include "hw/device.cuh"

namespace fixture {

using namespace fusedrnn;
using namespace fusedrnn::cuda;
using namespace fusedrnn::cuda::hw;

inline void require_ok(Status status) { check::require(status == Status::ok, "%s", status_text()); }

// What became of a call of the hardware layer and of the work that it put into the default stream.
inline Status done(Status status) { return status == Status::ok ? synchronize(nullptr) : status; }

// An array of device memory. The host may look into it, behind what is in the default stream.
template <class T>
class Device {
 public:
  explicit Device(size_t count) : count_(count) {
    require_ok(alloc(count * sizeof(T), reinterpret_cast<void**>(&data_)));
  }
  explicit Device(const std::vector<T>& values) : Device(values.size()) {
    require_ok(copy(data_, values.data(), count_ * sizeof(T), nullptr));
  }
  Device(const Device&) = delete;
  ~Device() { require_ok(hw::free(data_)); }
  T* data() const { return data_; }
  std::vector<T> values() const {
    require_ok(synchronize(nullptr));
    return std::vector<T>(data_, data_ + count_);
  }

 private:
  size_t count_;
  T* data_ = nullptr;
};

inline void set_seed(int seed) { setenv("FUSEDRNN_SIMT_SEED", std::to_string(seed).c_str(), 1); }

// Runs `body` under the schedule in order of index and under drawn ones.
template <class Body>
void under_schedules(int count, Body body) {
  for (int seed = 0; seed < count; ++seed) {
    set_seed(seed);
    body();
  }
  unsetenv("FUSEDRNN_SIMT_SEED");
}

// A failed call, or its work, must say all of `words`.
inline void require_fault(Status status, std::initializer_list<const char*> words) {
  status = done(status);
  if (!check::require(status == Status::device_error, "no fault was found, expected \"%s\"", *words.begin())) return;
  for (const char* word : words) {
    check::require(std::strstr(status_text(), word) != nullptr, "\"%s\" does not say \"%s\"", status_text(), word);
  }
}

}  // namespace fixture
