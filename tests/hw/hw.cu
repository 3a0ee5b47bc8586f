// The host side of the hardware layer as nvcc compiles it, over the runtime beside this file: what each failure is
// called. tests/test_cuda_hw.py builds and asks it; it needs neither GPU nor driver.
#include <cstring>

#include "contract.hpp"
#include "hw/device.cuh"

extern const char* failing;
extern int error;
extern bool pinned;
extern int most_clustered;
extern int device_index, calls;

namespace {

constexpr int kNotRemembered = 64;  // a device for which kernels are asked anew at every launch

int32_t at_once;

using namespace fusedrnn;
using namespace fusedrnn::cuda;

struct Args {
  float* x;
};
FR_KERNEL void a_kernel(const FR_CONSTANT Args a) { *a.x = 1; }
FR_KERNEL void never_asked_for(const FR_CONSTANT Args a) { *a.x = 1; }

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
  if (!std::strcmp(what, "trim")) return hw::trim();
  if (!std::strcmp(what, "uncountable launch")) return hw::launch<a_kernel>({{1, 1, 65536}, 128}, nullptr, {nullptr});
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
  if (!std::strncmp(what, "capture_", 8)) {
    const Status status = hw::capture_begin(&fresh);
    if (status != Status::ok) return status;
    if (!std::strcmp(what, "capture_begin")) return hw::capture_end(fresh, nullptr);
    return hw::capture_end(fresh, std::strcmp(what, "capture_drop") != 0 ? &graph : nullptr);
  }
  if (!std::strcmp(what, "graph_launch")) return hw::graph_launch(graph, on);
  if (!std::strcmp(what, "graph_free")) return hw::graph_free(graph);
  device_index = kNotRemembered;
  const hw::Grid grid{{7, 2, 1}, 128, 65536};
  hw::Grid cooperative = grid;
  cooperative.cooperative = true;
  if (!std::strcmp(what, "launch")) return hw::launch<a_kernel>(grid, nullptr, {nullptr});
  if (!std::strcmp(what, "cooperative launch")) return hw::launch<a_kernel>(cooperative, nullptr, {nullptr});
  if (!std::strcmp(what, "blocks_at_once")) return hw::blocks_at_once<a_kernel>(cooperative, &at_once);
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

extern "C" __attribute__((visibility("default"))) int last_at_once() { return at_once; }

// How many clusters of so many blocks run at once on a device whose clusters have `most` blocks at most; less than 0 if
// the question fails.
extern "C" __attribute__((visibility("default"))) int clusters(int cluster, int most, char* text, size_t bytes) {
  failing = "";
  most_clustered = most;
  device_index = 2;
  hw::Grid grid{{240, 1, 1}, 128, 65536};
  grid.cluster = cluster;
  int32_t found = -1;
  const Status status = hw::clusters_at_once<a_kernel>(grid, &found);
  std::snprintf(text, bytes, "%s", status == Status::ok ? "" : status_text());
  return status == Status::ok ? found : -1;
}

extern "C" __attribute__((visibility("default"))) int allowed() { return the_contract().shared_asked; }
extern "C" __attribute__((visibility("default"))) int carved() { return the_contract().carveout; }

extern "C" __attribute__((visibility("default"))) int why_not(const char* call, int with, char* text, size_t bytes) {
  failing = call;
  error = with;
  return usable(hw::machine(), text, bytes);
}

// How many calls of the runtime a launch is that a kernel was launched like before.
extern "C" __attribute__((visibility("default"))) int calls_of_launch(int device, int cluster) {
  failing = "";
  device_index = device;
  hw::Grid grid{{240, 1, 1}, 128, 65536};
  grid.cluster = cluster;
  for (int i = 0; i < 2; ++i) {
    the_contract().counted = 0;
    if (hw::launch<a_kernel>(grid, nullptr, {nullptr}) != Status::ok) return -1;
  }
  return the_contract().counted;
}

// The stream is being captured from now on, or not; or others are in another thread, in the mode `global`.
extern "C" __attribute__((visibility("default"))) void capture(int now) {
  the_contract().capture(reinterpret_cast<cudaStream_t>(0x6000), now != 0);
}
extern "C" __attribute__((visibility("default"))) void others_capture(int now) {
  the_contract().others_capture(now != 0);
}

// What the runtime says to a call that its documentation forbids.
extern "C" __attribute__((visibility("default"))) int forbidden(const char* what) {
  failing = "";
  most_clustered = 16;
  const auto is = [&](const char* other) { return std::strcmp(what, other) == 0; };
  const auto kernel = reinterpret_cast<const void*>(never_asked_for);
  const auto event = reinterpret_cast<cudaEvent_t>(0x3000);
  float* x = nullptr;
  void* arguments[] = {&x};
  cudaLaunchAttribute cluster = {};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {2, 1, 1};
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(240);
  config.blockDim = dim3(32);
  config.attrs = &cluster;
  const auto launch = [&] { return cudaLaunchKernelExC(&config, kernel, arguments); };
  if (is("nothing")) return launch();
  if (is("more threads than a block has")) return config.blockDim.x = 1056, launch();
  if (is("a grid of many layers")) return config.gridDim.z = 65536, launch();
  if (is("a grid of none")) return config.gridDim.x = 0, launch();
  if (is("shared memory unasked")) return config.dynamicSmemBytes = 49153, launch();
  if (is("more than there is"))
    return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Contract::kMostShared + 1);
  config.numAttrs = 1;
  if (is("clusters that do not divide")) return config.gridDim.x = 241, launch();
  cluster.val.clusterDim.x = 16;
  if (is("large clusters unasked")) return launch();
  config.numAttrs = 0;
  int found = 0;
  if (is("clusters of no size")) return cudaOccupancyMaxActiveClusters(&found, kernel, &config);

  cudaStream_t stream = nullptr;
  (void)cudaStreamCreateWithFlags(&stream, cudaStreamDefault);
  const bool captures = !is("the end of no capture");
  if (captures) (void)cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
  int said = -1;
  void* memory = nullptr;
  if (is("the end of no capture")) {
    cudaGraph_t graph = nullptr;
    said = cudaStreamEndCapture(stream, &graph);
  } else if (is("a capture within one")) {
    said = cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
  } else if (is("the legacy stream beside one")) {
    said = cudaMemsetAsync(&memory, 0, 8, nullptr);
  } else if (is("a wait for it")) {
    said = cudaStreamSynchronize(stream);
  } else if (is("a question about its event")) {
    (void)cudaEventRecord(event, stream);
    said = cudaEventQuery(event);
  } else if (is("an event from outside")) {
    (void)cudaEventRecord(event, reinterpret_cast<cudaStream_t>(0x9000));
    said = cudaStreamWaitEvent(stream, event, 0);
  } else if (is("memory within one")) {
    said = cudaMalloc(&memory, 64);
  }
  the_contract().capture(stream, false);
  (void)cudaStreamDestroy(stream);
  return said;
}

// How many streams and graphs the last `ask` has destroyed.
extern "C" __attribute__((visibility("default"))) int destroyed() { return calls; }
