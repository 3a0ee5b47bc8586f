// The host side of the door as nvcc compiles it, over the runtime beside this file: what each failure is called.
// tests/test_cuda_door.py builds and asks it; it needs neither GPU nor driver.
#include <cstring>

#include "device.cuh"

extern const char* failing;
extern int error;
extern bool pinned;

namespace {

using namespace fusedrnn;
using namespace fusedrnn::cuda;

struct Args {
  float* x;
};
FR_KERNEL void a_kernel(const FR_CONSTANT Args a) { *a.x = 1; }

Status run(const char* what) {
  char* const device = reinterpret_cast<char*>(0x1000);
  void* memory = nullptr;
  int32_t index = 0;
  door::DeviceInfo info;
  if (!std::strcmp(what, "alloc")) return door::alloc(1048576, &memory);
  if (!std::strcmp(what, "free")) return door::free(device);
  if (!std::strcmp(what, "copy")) return door::copy(device, device + 64, 64, nullptr);
  if (!std::strcmp(what, "fill")) return door::fill(device, 255, 64, nullptr);
  if (!std::strcmp(what, "synchronize")) return door::synchronize(nullptr);
  if (!std::strcmp(what, "current_device")) return door::current_device(&index);
  if (!std::strcmp(what, "device_of")) return door::device_of(device, &index);
  if (!std::strcmp(what, "device_info")) return door::device_info(&info);
  if (!std::strcmp(what, "launch")) return door::launch<a_kernel>({{7, 2, 1}, 128, 65536}, nullptr, {nullptr});
  return fail(Status::invalid_argument, "nobody knows %s", what);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int ask(const char* what, const char* call, int with, int host,
                                                          char* text, size_t bytes) {
  failing = call;
  error = with;
  pinned = host != 0;
  const Status status = run(what);
  std::snprintf(text, bytes, "%s", status == Status::ok ? "" : status_text());
  return static_cast<int>(status);
}

extern "C" __attribute__((visibility("default"))) int device_of(size_t address) {
  failing = "";
  int32_t device = -2;
  return door::device_of(reinterpret_cast<void*>(address), &device) == Status::ok ? device : -3;
}

extern "C" __attribute__((visibility("default"))) int why_not(const char* call, int with, char* text, size_t bytes) {
  failing = call;
  error = with;
  return usable(door::machine(), text, bytes);
}
