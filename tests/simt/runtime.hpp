// What kernels compiled for the host reach of the emulator. Everything declared here is compiled without any
// sanitizer's instrumentation, whatever the kernels are compiled with.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <functional>

#include "hw/failure.hpp"

namespace fusedrnn::cuda::simt {

// What the running CUDA thread knows about itself.
struct View {
  int thread, threads;
  int64_t block[3], blocks[3];
  unsigned char* shared;  // the block's dynamic shared memory
  size_t shared_bytes;
  int cluster_rank, cluster_blocks;
  bool metered;  // whether the block's bank conflicts are counted
};
extern const View* here;

// Ends the launch: it returns Status::device_error with a text that names kernel, block, thread and what is wrong.
[[noreturn]] __attribute__((format(printf, 1, 2))) void fault(const char* format, ...);

// ---- shared memory. Every byte has a state at a fixed distance from it.
constexpr size_t kMaxShared = 227 * 1024;  // of sm_90
constexpr int kMaxCluster = 16;
constexpr size_t kMaxArgument = 32764;
constexpr int kMultiprocessors = 132;  // of an H100
constexpr size_t kStateDistance = 256 * 1024;
enum ByteState : unsigned char { kNeverWritten = 0, kWritten = 1, kInFlight = 2, kMbarrier = 3 };

void require_written(const void* p, size_t bytes);
void note_written(void* p, size_t bytes);
[[noreturn]] void not_written(const void* p, size_t bytes);
[[noreturn]] void outside_shared(const void* p, size_t bytes, const void* first, const void* last);
void note_banks(const void* p, size_t bytes);  // an access, of a block that is metered
void* shared_array(int64_t byte_offset, int64_t bytes, size_t alignment, unsigned char** last);

void copy_async(void* to, const void* from, int bytes, int bytes_valid);
void commit_copies();
void wait_copies(int groups);

// ---- clusters
void cluster_arrive();
void cluster_wait();

// What is at `p` of this block's shared memory in block `rank`, and where the array ends.
struct There {
  unsigned char* at;
  unsigned char *first, *last;
};
There remote(void* p, void* first, void* last, int rank);
void remote_load(const There& from, void* value, size_t bytes);
void remote_store(const There& to, const void* value, size_t bytes);

// ---- mbarriers
void mbarrier_init(void* m, int arrivals);
void mbarrier_arrive(const There& m);
void mbarrier_arrive_expect(void* m, int bytes);
void mbarrier_wait(void* m, int parity);
void store_async(const There& to, const void* value, size_t bytes, const There& m);

// ---- flags
void flag_post(uint32_t* flag, uint32_t value);
void flag_poll(const uint32_t* flag, uint32_t value);

// ---- global memory: an access of `bytes` that is not inside one allocation, or is not aligned to `bytes`, is a fault.
void require_global(const void* p, size_t bytes, bool write);

// ---- kernels that overlap
void wait_on_dependency();
void launch_dependents();

// ---- meetings
void barrier();
void warp_barrier();
uint64_t shuffle(uint64_t bits, int from);  // the bits that lane `from` brought
uint32_t ballot(bool yes);
enum class Operand { tf32, bf16, fp16 };
void mma(Operand operand, float* d, const uint32_t* a, const uint32_t* b);
void load_matrices(const void* row, bool transposed, uint32_t* words);

// ---- host side
enum class Deed { allocates, waits };
void note(Deed deed);  // for fusedrnn_simt_counts (exports.cpp)

struct LaunchShape {
  const char* kernel;  // a mangled template argument, the same pointer at every launch of a kernel
  int64_t blocks[3];
  int threads;
  size_t shared_bytes;
  int cluster;
  size_t argument_bytes;
  bool overlaps, cooperative;
};
// For the notes of what ran.
void note_launch(const LaunchShape& shape);
// Whether the bank conflicts of a launch are wanted: of the first few of a kernel and size, where notes are taken.
bool banks_wanted(const LaunchShape& shape);
void note_passes(const LaunchShape& shape, int passes, const void* site);
// `run(args)` is one thread's kernel; the `bytes` at `args` are copied. `signature` is the __PRETTY_FUNCTION__ of the
// function template launch<kernel>.
Status launch(const LaunchShape& shape, Stream stream, void (*run)(const void* args), const void* args, size_t bytes,
              const char* signature, SourceLocation location);
// With FUSEDRNN_SIMT_STREAM set to a number, work for any other stream is a failure.
Status require_stream(const char* call, Stream stream, SourceLocation location);
Status alloc(size_t bytes, void** memory, SourceLocation location);
Status free(void* memory, SourceLocation location);
Status alloc_on(size_t bytes, void** memory, Stream stream, SourceLocation location);
Status free_on(void* memory, Stream stream, SourceLocation location);
void trim();
size_t pooled_bytes();  // that trim() would give back
Status copy(void* to, const void* from, size_t bytes, Stream stream, SourceLocation location);
Status fill(void* to, int value, size_t bytes, Stream stream, SourceLocation location);
Status synchronize(Stream stream, SourceLocation location);
extern thread_local int relaxed;  // how many hw::Relaxed the thread has
Status call_later(Stream stream, std::function<bool()> work, SourceLocation location);
Status event_create(Event* event, SourceLocation location);
Status event_free(Event event, SourceLocation location);
Status event_record(Event event, Stream stream, SourceLocation location);
Status event_wait(Stream stream, Event event, SourceLocation location);
Status event_query(Event event, bool* yes, SourceLocation location);
Status capturing(Stream stream, bool* yes, SourceLocation location);
Status capture_hold(Stream stream, void* object, void (*release)(void* object), SourceLocation location);
Status capture_begin(Stream* stream, SourceLocation location);
Status capture_end(Stream stream, Graph* graph, SourceLocation location);
Status graph_launch(Graph graph, Stream stream, SourceLocation location);
Status graph_free(Graph graph, SourceLocation location);
int current_device();          // FUSEDRNN_SIMT_DEVICE, else 0: whose memory alloc gives
int device_of(const void* p);  // of the allocation that it is inside, else -1
size_t device_bytes();         // FUSEDRNN_SIMT_MEMORY, else 4 GiB
int compute_major();           // FUSEDRNN_SIMT_COMPUTE, else 9
size_t argument_bytes();       // FUSEDRNN_SIMT_ARGUMENT, else as many as an argument has at most
int most_cluster_blocks();     // FUSEDRNN_SIMT_CLUSTER, else kMaxCluster; one where compute_major() is less than 9
int most_blocks();             // FUSEDRNN_SIMT_BLOCKS, else kMultiprocessors: of a cooperative launch
int64_t most_nodes();          // FUSEDRNN_SIMT_NODES, else as many as there are: of a graph

}  // namespace fusedrnn::cuda::simt
