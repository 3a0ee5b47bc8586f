// Where a call runs, and what it allocates there: on a CPU when its arrays are NumPy's, else on their device.
//
//   const Backend* device = device_of(x_object);                // which the arguments are then checked against
//   const Backend& backend = backend_of(device);
//   const Result y = fresh_on(device, x.element(), {B, N}, "y");
//   GilRelease release;
//   CallStream on(device);
//   const Memory workspace(backend, bytes, "workspace");
//   check(backend, backend.something(&args, workspace.data(), on.stream()), "something");
//   on.finish();
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "bindings/arrays/argument.hpp"
#include "device/stream_memory.hpp"
#include "runtime/team.hpp"

namespace fusedrnn {

// The device whose array `value` is, nullptr for anything else. RuntimeError where CUDA cannot be used.
const Backend* device_of(py::handle value);

// The table that serves arrays of `device`: with nullptr the current one of the CPU.
const Backend& backend_of(const Backend* device);

// A block of a backend's memory, null where it has no bytes. On a device it is there for the work of the calling
// thread's stream, and freed behind all work that uses it, without waiting.
class Memory {
 public:
  Memory(const Backend& backend, size_t bytes, const char* what);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  // For the call under way, which writes it; or only reads it, as others may at the same time.
  void* data() const { return used(Access::write); }
  const void* read() const { return used(Access::read); }
  template <class T>
  T* as() const {
    return static_cast<T*>(data());
  }
  size_t bytes() const { return bytes_; }

 private:
  void* used(Access access) const;

  const Backend& backend_;
  std::shared_ptr<Block> block_;  // nullptr on a CPU
  void* data_ = nullptr;
  size_t bytes_;
};

// What a backend runs on for the length of a call: the team of threads on a CPU, or the calling thread's stream of a
// device. Without the GIL.
//
// `finish` ends the call. On a device its work is in the stream then, to be done in time, and what the call has taken
// as arguments or Memory and given as results is kept until it is done (stream_memory.hpp): the host does not wait. So
// what a call does before, the checks of its arguments included, is done by one thread without another call in between.
class CallStream {
 public:
  explicit CallStream(const Backend* device);
  ~CallStream();
  CallStream(const CallStream&) = delete;
  CallStream& operator=(const CallStream&) = delete;

  // Plans with the threads there are: the team's, or one if it sleeps and the work is too little to wake it.
  void offer(SequenceDesc& desc);
  // The same for packing weights: wakes no worker, but has a sleeping team awake for the pass that follows.
  void offer_to_pack(SequenceDesc& desc);
  Stream stream() { return lease_ ? static_cast<Stream>(lease_->team()) : stream_; }
  int32_t threads() const { return lease_ ? lease_->size() : 1; }
  void finish();

 private:
  const Backend* device_;
  bool finished_ = false;
  Stream stream_ = nullptr;
  std::optional<TeamLease> lease_;
};

// A new array of the caller's, where the call's arrays are.
struct Result {
  py::object object = py::none();
  void* data = nullptr;
};

Result fresh_on(const Backend* device, Element element, const std::vector<int64_t>& sizes, const char* name);

// A number that a call computes, in float64: for Python a float, on a device a DeviceArray without axes, for which
// no thread has to wait. Not to be moved: a CPU's number lies within.
class Scalar {
 public:
  Scalar(const Backend* device, const char* name);
  Scalar(const Scalar&) = delete;
  Scalar& operator=(const Scalar&) = delete;

  double* data() { return result_.data != nullptr ? static_cast<double*>(result_.data) : &number_; }
  py::object object() const { return result_.data != nullptr ? result_.object : py::float_(number_); }

 private:
  double number_ = 0;
  Result result_;
};

// For checks of values: `bytes` bytes of `what` in host memory, where they are or copied from a device into `kept`.
// Waits for what the calling thread's stream is doing: RuntimeError where that is being captured.
const void* on_host(const void* from, size_t bytes, const Backend* device, std::vector<char>& kept, const char* what);

}  // namespace fusedrnn
