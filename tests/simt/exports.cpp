// What tests in Python reach of the emulator, by C functions of its plugin: counts of what steady work is to be
// without, and captures in the place of users with graphs of their own.
#include <atomic>

#include "streams.hpp"

namespace fusedrnn::cuda::simt {
namespace {

std::atomic<uint64_t> made[2];

}  // namespace

thread_local int relaxed = 0;

void note(Deed deed) { made[static_cast<int>(deed)].fetch_add(1, std::memory_order_relaxed); }

}  // namespace fusedrnn::cuda::simt

#define FR_EXPORT extern "C" __attribute__((visibility("default")))

using namespace fusedrnn;
using namespace fusedrnn::cuda;

// counts[0]: allocations, those in a stream's order among them; counts[1]: calls that wait, as copies from and to host
// memory that nobody has pinned may.
FR_EXPORT void fusedrnn_simt_counts(uint64_t* counts) {
  for (int i = 0; i < 2; ++i) counts[i] = simt::made[i].load(std::memory_order_relaxed);
}

FR_EXPORT int64_t fusedrnn_simt_pooled() { return static_cast<int64_t>(simt::pooled_bytes()); }

// Whether the calling thread may allocate beside captures.
FR_EXPORT int fusedrnn_simt_relaxed() { return simt::relaxed > 0; }

// What is put into the stream is recorded from now on, and run by launches of the graph. Return a Status.
FR_EXPORT int fusedrnn_simt_capture(void* stream) {
  return static_cast<int>(simt::capture(stream, {__FILE__, __LINE__}));
}
FR_EXPORT int fusedrnn_simt_capture_end(void* stream, void** graph) {
  return static_cast<int>(simt::capture_end(stream, graph, {__FILE__, __LINE__}));
}
FR_EXPORT int fusedrnn_simt_launch(void* graph, void* stream) {
  return static_cast<int>(simt::graph_launch(graph, stream, {__FILE__, __LINE__}));
}
FR_EXPORT int fusedrnn_simt_graph_free(void* graph) {
  return static_cast<int>(simt::graph_free(graph, {__FILE__, __LINE__}));
}
