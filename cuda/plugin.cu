// The plugin's only export: the table of backend.hpp, filled by the files beside this one.
#include <cstdio>

#include "cublaslt.hpp"
#include "device.cuh"
#include "entries.hpp"
#include "gemm.hpp"
#include "sequence.hpp"

namespace fusedrnn::cuda {
namespace {

// ---- memory and streams: the door's, without the caller's place
Status table_alloc(size_t bytes, void** memory) { return door::alloc(bytes, memory); }

void table_free(void* memory) { (void)door::free(memory); }

Status table_copy(void* to, const void* from, size_t bytes, Stream stream) {
  return door::copy(to, from, bytes, stream);
}

Status table_fill(void* to, int value, size_t bytes, Stream stream) { return door::fill(to, value, bytes, stream); }

Status table_synchronize(Stream stream) { return door::synchronize(stream); }

int32_t table_device() {
  int32_t device = -1;
  return door::current_device(&device) == Status::ok ? device : -1;
}

Status table_device_of(const void* memory, int32_t* device) { return door::device_of(memory, device); }

Status table_alloc_on(size_t bytes, void** memory, Stream stream) { return door::alloc_on(bytes, memory, stream); }

Status table_free_on(void* memory, Stream stream) { return door::free_on(memory, stream); }

Status table_mark_create(Mark* mark) { return door::mark_create(mark); }

void table_mark_free(Mark mark) { (void)door::mark_free(mark); }

Status table_mark(Mark mark, Stream stream) { return door::mark(mark, stream); }

Status table_wait_mark(Stream stream, Mark mark) { return door::wait_mark(stream, mark); }

Status table_reached(Mark mark, int32_t* yes) {
  bool answer = false;
  const Status status = door::reached(mark, &answer);
  *yes = answer;
  return status;
}

Status table_capturing(Stream stream, int32_t* yes) {
  bool answer = false;
  const Status status = door::capturing(stream, &answer);
  *yes = answer;
  return status;
}

Status table_capture_hold(Stream stream, void* object, void (*release)(void*)) {
  return door::capture_hold(stream, object, release);
}

Status table_capture_begin(Stream* stream) { return door::capture_begin(stream); }

Status table_capture_end(Stream stream, Graph* graph) { return door::capture_end(stream, graph); }

Status table_graph_launch(Graph graph, Stream stream) { return door::graph_launch(graph, stream); }

void table_graph_free(Graph graph) { (void)door::graph_free(graph); }

Status table_describe(char* text, size_t bytes) {
  door::DeviceInfo info;
  const Status status = door::device_info(&info);
  if (status != Status::ok) return status;
  std::snprintf(text, bytes, "%s, compute capability %d.%d, %d multiprocessors, %.1f GiB, %s", info.name,
                info.compute_major, info.compute_minor, info.multiprocessors,
                static_cast<double>(info.memory) / (1 << 30), cublaslt::state());
  return Status::ok;
}

#if defined(FUSEDRNN_SIMT)
constexpr const char* kName = "simt";
constexpr int32_t kMemory = kEmulatorMemory;
#else
constexpr const char* kName = "cuda";
constexpr int32_t kMemory = kCudaMemory;
#endif

constexpr Backend kTable = {
    /* abi */ kBackendAbi,
    /* size */ sizeof(Backend),
    /* name */ kName,
    /* status_text */ status_text,
    /* describe */ table_describe,

    /* alloc */ table_alloc,
    /* free */ table_free,
    /* copy */ table_copy,
    /* fill */ table_fill,
    /* synchronize */ table_synchronize,
    /* memory */ kMemory,
    /* device */ table_device,
    /* device_of */ table_device_of,

    /* alloc_on */ table_alloc_on,
    /* free_on */ table_free_on,
    /* mark_create */ table_mark_create,
    /* mark_free */ table_mark_free,
    /* mark */ table_mark,
    /* wait_mark */ table_wait_mark,
    /* reached */ table_reached,
    /* capturing */ table_capturing,
    /* capture_hold */ table_capture_hold,
    /* capture_begin */ table_capture_begin,
    /* capture_end */ table_capture_end,
    /* graph_launch */ table_graph_launch,
    /* graph_free */ table_graph_free,

    /* plan */ sequence_plan,
    /* sizes */ sequence_sizes,
    /* pack */ sequence_pack,
    /* forward */ sequence_forward,
    /* backward */ sequence_backward,
    /* tape_view */ sequence_tape_view,

    /* gemm_workspace */ gemm_workspace,
    /* gemm */ gemm,
    /* column_sum */ column_sum,

    /* check_values */ check_values,

    /* embedding_forward */ embedding_forward,
    /* embedding_backward */ embedding_backward,
    /* layer_norm_forward */ layer_norm_forward,
    /* layer_norm_backward */ layer_norm_backward,
    /* dropout */ dropout,
    /* last_forward */ last_forward,
    /* last_backward */ last_backward,

    /* loss */ loss,
    /* optimizer */ optimizer,
    /* norm */ norm,
    /* clipped_update */ clipped_update,
    /* scale */ scale,
    /* clip_value */ clip_value,

    /* gather */ gather,
    /* upload */ upload,
    /* count_up */ count_up,
};

}  // namespace
}  // namespace fusedrnn::cuda

extern "C" __attribute__((visibility("default"))) const fusedrnn::Backend* fusedrnn_plugin(uint32_t abi, char* why,
                                                                                           size_t why_bytes) {
  using namespace fusedrnn;
  if (abi != kBackendAbi) {
    std::snprintf(why, why_bytes,
                  "the plugin has version %u of the table, the package version %u: install fusedrnn again", kBackendAbi,
                  abi);
    return nullptr;
  }
  return cuda::usable(cuda::door::machine(), why, why_bytes) ? &cuda::kTable : nullptr;
}
