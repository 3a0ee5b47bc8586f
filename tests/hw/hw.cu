// The host side of the hardware layer as nvcc compiles it, over the runtime beside this file: what each failure is
// called. tests/test_cuda_hw.py builds and asks it; it needs neither GPU nor driver.
#include <cstring>

#include "hw/device.cuh"

extern const char* failing;
extern int error;
extern bool pinned, captured;
extern int shared_asked;
extern int device_index, calls;

namespace {

int32_t blocks_at_once;

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
  hw::DeviceInfo info;
  if (!std::strcmp(what, "alloc")) return hw::alloc(1048576, &memory);
  if (!std::strcmp(what, "free")) return hw::free(device);
  if (!std::strcmp(what, "copy")) return hw::copy(device, device + 64, 64, nullptr);
  if (!std::strcmp(what, "fill")) return hw::fill(device, 255, 64, nullptr);
  if (!std::strcmp(what, "synchronize")) return hw::synchronize(nullptr);
  if (!std::strcmp(what, "current_device")) return hw::current_device(&index);
  if (!std::strcmp(what, "device_of")) return hw::device_of(device, &index);
  if (!std::strcmp(what, "device_info")) return hw::device_info(&info);
  const auto on = reinterpret_cast<Stream>(0x6000);
  const auto event = reinterpret_cast<Event>(0x3000);
  const auto held = [](void*) {};
  bool yes = false;
  Event made = nullptr;
  Stream fresh = nullptr;
  Graph graph = reinterpret_cast<Graph>(0x7000);
  if (!std::strcmp(what, "alloc_on")) {
    static int without_pool = 3;
    device_index = without_pool++;
    return hw::alloc_on(1048576, &memory, on);
  }
  if (!std::strcmp(what, "free_on")) return hw::free_on(device, on);
  if (!std::strcmp(what, "event_create")) return hw::event_create(&made);
  if (!std::strcmp(what, "event_free")) return hw::event_free(event);
  if (!std::strcmp(what, "event_record")) return hw::event_record(event, on);
  if (!std::strcmp(what, "event_wait")) return hw::event_wait(on, event);
  if (!std::strcmp(what, "event_query")) {
    const Status status = hw::event_query(event, &yes);
    return status != Status::ok || yes ? status : fail(Status::invalid_argument, "not yet");
  }
  if (!std::strcmp(what, "capturing")) return hw::capturing(on, &yes);
  if (!std::strcmp(what, "capture_hold")) return hw::capture_hold(on, device, held);
  if (!std::strcmp(what, "capture_begin")) return hw::capture_begin(&fresh);
  if (!std::strcmp(what, "capture_end")) return hw::capture_end(on, &graph);
  if (!std::strcmp(what, "capture_drop")) return hw::capture_end(on, nullptr);
  if (!std::strcmp(what, "graph_launch")) return hw::graph_launch(graph, on);
  if (!std::strcmp(what, "graph_free")) return hw::graph_free(graph);
  const hw::Grid grid{{7, 2, 1}, 128, 65536};
  hw::Grid cooperative = grid;
  cooperative.cooperative = true;
  if (!std::strcmp(what, "launch")) return hw::launch<a_kernel>(grid, nullptr, {nullptr});
  if (!std::strcmp(what, "cooperative launch")) return hw::launch<a_kernel>(cooperative, nullptr, {nullptr});
  if (!std::strcmp(what, "blocks_at_once")) return hw::blocks_at_once<a_kernel>(cooperative, &blocks_at_once);
  return fail(Status::invalid_argument, "nobody knows %s", what);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int ask(const char* what, const char* call, int with, int host,
                                                          char* text, size_t bytes) {
  failing = call;
  error = with;
  pinned = host != 0;
  device_index = 2;
  calls = 0;
  const Status status = run(what);
  std::snprintf(text, bytes, "%s", status == Status::ok ? "" : status_text());
  return static_cast<int>(status);
}

extern "C" __attribute__((visibility("default"))) int device_of(size_t address) {
  failing = "";
  int32_t device = -2;
  return hw::device_of(reinterpret_cast<void*>(address), &device) == Status::ok ? device : -3;
}

extern "C" __attribute__((visibility("default"))) int blocks() { return blocks_at_once; }

extern "C" __attribute__((visibility("default"))) int allowed() { return shared_asked; }

extern "C" __attribute__((visibility("default"))) int why_not(const char* call, int with, char* text, size_t bytes) {
  failing = call;
  error = with;
  return usable(hw::machine(), text, bytes);
}

// Streams are being captured from now on, or not.
extern "C" __attribute__((visibility("default"))) void capture(int now) { captured = now != 0; }

// How many streams and graphs the last `ask` has destroyed.
extern "C" __attribute__((visibility("default"))) int destroyed() { return calls; }
