// The plugin's only export: the table of backend.hpp, filled by the files beside this one.
#include <cstdio>

#include "entries.hpp"
#include "hw/device.cuh"
#include "products/cublaslt.hpp"
#include "products/gemm.hpp"
#include "recurrent/sequence.hpp"
#include "recurrent/sequence_graph.hpp"

namespace fusedrnn::cuda {
namespace {

// ---- memory and streams: the hardware layer's, without the caller's location
Status table_alloc(size_t bytes, void** memory) { return hw::alloc(bytes, memory); }

void table_free(void* memory) { (void)hw::free(memory); }

Status table_copy(void* to, const void* from, size_t bytes, Stream stream) { return hw::copy(to, from, bytes, stream); }

Status table_fill(void* to, int value, size_t bytes, Stream stream) { return hw::fill(to, value, bytes, stream); }

Status table_synchronize(Stream stream) { return hw::synchronize(stream); }

int32_t table_device() {
  int32_t device = -1;
  return hw::current_device(&device) == Status::ok ? device : -1;
}

Status table_device_of(const void* memory, int32_t* device) { return hw::device_of(memory, device); }

Status table_alloc_on(size_t bytes, void** memory, Stream stream) { return hw::alloc_on(bytes, memory, stream); }

Status table_free_on(void* memory, Stream stream) { return hw::free_on(memory, stream); }

Status table_trim() { return hw::trim(); }

Status table_event_create(Event* event) { return hw::event_create(event); }

void table_event_free(Event event) { (void)hw::event_free(event); }

Status table_event_record(Event event, Stream stream) { return hw::event_record(event, stream); }

Status table_event_wait(Stream stream, Event event) { return hw::event_wait(stream, event); }

Status table_event_query(Event event, int32_t* yes) {
  bool answer = false;
  const Status status = hw::event_query(event, &answer);
  *yes = answer;
  return status;
}

Status table_capturing(Stream stream, int32_t* yes) {
  bool answer = false;
  const Status status = hw::capturing(stream, &answer);
  *yes = answer;
  return status;
}

Status table_capture_hold(Stream stream, void* object, void (*release)(void*)) {
  return hw::capture_hold(stream, object, release);
}

Status table_capture_begin(Stream* stream) { return note_recording(hw::capture_begin(stream)); }

Status table_capture_end(Stream stream, Graph* graph) { return note_recording(hw::capture_end(stream, graph)); }

Status table_graph_launch(Graph graph, Stream stream) { return hw::graph_launch(graph, stream); }

void table_graph_free(Graph graph) { (void)hw::graph_free(graph); }

Status table_describe(char* text, size_t bytes) {
  hw::DeviceInfo info;
  const Status status = hw::device_info(&info);
  if (status != Status::ok) return status;
  const std::string graphs = graphs_state();
  const Machine machine = hw::machine();
  std::snprintf(text, bytes,
                "%s, compute capability %d.%d, %d multiprocessors, %.1f GiB, driver for CUDA %d.%d, toolkit of CUDA "
                "%d.%d, %s%s%s",
                info.name, info.compute_major, info.compute_minor, info.multiprocessors,
                static_cast<double>(info.memory) / (1 << 30), machine.driver / 1000, machine.driver % 1000 / 10,
                machine.runtime / 1000, machine.runtime % 1000 / 10, cublaslt::state(), graphs.empty() ? "" : ", ",
                graphs.c_str());
  return Status::ok;
}

#if defined(FUSEDRNN_SIMT)
constexpr const char* kName = "simt";
constexpr int32_t kMemory = kEmulatorMemory;
#else
constexpr const char* kName = "cuda";
constexpr int32_t kMemory = kCudaMemory;
#endif

constexpr SequenceOps kSequenceOps = {
    /* plan */ sequence_plan,
    /* sizes */ sequence_sizes,
    /* pack */ sequence_pack,
    /* forward */ sequence_forward,
    /* backward */ sequence_backward,
    /* tape_view */ sequence_tape_view,
};

constexpr DenseOps kDenseOps = {
    /* gemm_workspace */ gemm_workspace,
    /* gemm */ gemm,
    /* column_sum */ column_sum,
    /* embedding_forward */ embedding_forward,
    /* embedding_backward */ embedding_backward,
    /* layer_norm_forward */ layer_norm_forward,
    /* layer_norm_backward */ layer_norm_backward,
    /* dropout */ dropout,
    /* last_forward */ last_forward,
    /* last_backward */ last_backward,
};

constexpr LossOps kLossOps = {
    /* loss */ loss,
};

constexpr OptimOps kOptimOps = {
    /* optimizer */ optimizer,
    /* norm */ norm,
    /* clipped_update */ clipped_update,
    /* scale */ scale,
    /* clip_value */ clip_value,
};

constexpr AsyncOps kAsyncOps = {
    /* alloc_on */ table_alloc_on,
    /* free_on */ table_free_on,
    /* trim */ table_trim,
    /* event_create */ table_event_create,
    /* event_free */ table_event_free,
    /* event_record */ table_event_record,
    /* event_wait */ table_event_wait,
    /* event_query */ table_event_query,
    /* capturing */ table_capturing,
    /* capture_hold */ table_capture_hold,
    /* capture_begin */ table_capture_begin,
    /* capture_end */ table_capture_end,
    /* graph_launch */ table_graph_launch,
    /* graph_free */ table_graph_free,
    /* check_values */ check_values,
    /* gather */ gather,
    /* upload */ upload,
    /* increment */ increment,
};

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
    /* sequence */ &kSequenceOps,
    /* dense */ &kDenseOps,
    /* losses */ &kLossOps,
    /* optim */ &kOptimOps,
    /* async */ &kAsyncOps,
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
  return cuda::usable(cuda::hw::machine(), why, why_bytes) ? &cuda::kTable : nullptr;
}
