// The hardware layer (`hw`): the only way from this folder to the hardware. Kernels and the code that launches them
// name no CUDA built-in, no inline PTX and no call of the CUDA runtime; they use what is declared here. Two
// implementations follow the same contract: device_cuda.cuh for nvcc, and tests/simt/device_simt.hpp (FUSEDRNN_SIMT),
// which runs the same sources on the host with every CUDA thread a fiber and finds their faults.
//
// A kernel takes one trivially copyable struct by value:
//
//   struct Args { const float* x; float* y; int64_t n; };
//   FR_KERNEL void scale(const FR_CONSTANT Args a) { ... }
//   launch<scale>({{blocks}, 256}, stream, {x, y, n})
//
// Blocks have one axis of threads, a multiple of 32. Neighbouring blocks may form clusters. Shared memory is dynamic
// and reached through Shared<T>, which is a plain pointer on a GPU and a checked one on the host: read s[i] into a
// variable of type T (not auto), write s[i] = v.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <type_traits>

#include "backend/backend.hpp"
#include "hw/failure.hpp"
#include "hw/machine.hpp"

#if defined(FUSEDRNN_SIMT)
#define FR_KERNEL
#define FR_DEVICE inline
#define FR_BOTH inline
#define FR_CONSTANT
#define FR_LAUNCH_BOUNDS(threads, blocks)
#define FR_UNROLL
#define FR_UNROLL_BY(count)
#include "shared.hpp"
#else
#define FR_KERNEL __global__
#define FR_DEVICE __device__ __forceinline__
#define FR_BOTH __host__ __device__ __forceinline__  // for what the host may call as well
// Marks a kernel's argument as read-only: it stays in constant memory however it is indexed.
#define FR_CONSTANT __grid_constant__
// At most `threads` threads a block, at least `blocks` blocks on a multiprocessor: what registers are given out for.
#define FR_LAUNCH_BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)
#define FR_UNROLL _Pragma("unroll")
#define FR_PRAGMA(text) _Pragma(#text)
#define FR_UNROLL_BY(count) FR_PRAGMA(unroll(count))
namespace fusedrnn::cuda::hw {
template <class T>
using Shared = T*;
// A place in the shared memory of a block of the cluster.
template <class T>
struct Remote {
  uint32_t address;
  FR_DEVICE Remote operator+(int n) const { return {address + n * static_cast<uint32_t>(sizeof(T))}; }
};
}  // namespace fusedrnn::cuda::hw
#endif

namespace fusedrnn::cuda::hw {

constexpr int kWarp = 32;

// Storage types: bits, no arithmetic.
struct Bf16 {
  uint16_t bits;
};
struct Fp16 {
  uint16_t bits;
};

// N values that move together; aligned to their size.
template <class T, int N>
struct alignas(sizeof(T) * N) Vec {
  T v[N];
};

// ------------------------------------------------------------------------------------------------ who and how many
FR_DEVICE int thread();   // in its block
FR_DEVICE int threads();  // of a block
FR_DEVICE int lane();     // in its warp
FR_DEVICE int warp();     // in its block
FR_DEVICE int64_t block_x();
FR_DEVICE int block_y();
FR_DEVICE int block_z();
FR_DEVICE int64_t blocks_x();
FR_DEVICE int blocks_y();
FR_DEVICE int blocks_z();

// The value itself; a compiler that runs out of registers keeps it rather than compute it again where it is used.
FR_DEVICE int64_t keep(int64_t value);
FR_DEVICE uint32_t keep(uint32_t value);

// -------------------------------------------------------------------------------------------------- synchronisation
// Every thread of the block arrives before any goes on; what they wrote before is seen after. All threads of a block
// reach it equally often; none may have returned.
FR_DEVICE void barrier();

// The same among the 32 lanes of a warp.
FR_DEVICE void warp_barrier();

// The value of another lane: lane() ^ mask, or `from`. All 32 lanes call it. T has 4 or 8 bytes.
template <class T>
FR_DEVICE T shuffle_xor(T value, int mask);
template <class T>
FR_DEVICE T shuffle(T value, int from);
FR_DEVICE uint32_t ballot(bool yes);  // bit i is what lane i said
FR_DEVICE int ones(uint32_t bits);    // how many bits are set

// ---------------------------------------------------------------------------------------------------- shared memory
// The block's dynamic shared memory from `byte_offset` on, which must suit T's alignment; not initialised. `count`, if
// given, is how many elements belong to this array: on the host every access is held to it.
template <class T>
FR_DEVICE Shared<T> shared(int64_t byte_offset, int64_t count = -1);

// The same place as elements of another type.
template <class U, class T>
FR_DEVICE Shared<U> recast(Shared<T> s);

// ---------------------------------------------------------------------------------------------------------- clusters
// With Grid::cluster > 1, as many blocks in a row along x form a cluster: they run at the same time and reach each
// other's shared memory. A block does so after the cluster has met once, for until then the others may not have begun,
// and none returns before it has been reached for the last time.
//
// Below compute capability 9.0 there are none: `kClusters` is false where code is compiled for it, and a kernel that
// needs them is empty there.
FR_DEVICE int cluster_rank();    // of this block in its cluster
FR_DEVICE int cluster_blocks();  // of a cluster

// A barrier of all threads of the cluster in two halves: what they wrote before they arrived is seen after the wait.
// Each thread arrives, then waits, equally often; none has returned.
FR_DEVICE void cluster_arrive();
FR_DEVICE void cluster_wait();

// The same place in block `rank`, which may be the own one; and single elements there, of 4, 8 or 16 bytes.
template <class T>
FR_DEVICE Remote<T> remote(Shared<T> s, int rank);
template <class T>
FR_DEVICE T load(Remote<T> from);
template <class T>
FR_DEVICE void store(Remote<T> to, T value);

// ---------------------------------------------------------------------------------------------------------- mbarriers
// An object in shared memory that goes through phases, numbered from 0. A phase ends when `arrivals` threads have
// arrived in it and as many bytes have come as were announced; bytes may come before they are announced. One thread
// makes it, once; others use it behind a barrier, those of other blocks behind the cluster's.
struct alignas(8) Mbarrier {
  uint64_t opaque;
};
FR_DEVICE void mbarrier_init(Shared<Mbarrier> m, int arrivals);
FR_DEVICE void mbarrier_arrive(Remote<Mbarrier> m);
FR_DEVICE void mbarrier_arrive_expect(Shared<Mbarrier> m, int bytes);  // arrives and announces bytes

// Waits for the end of a phase whose number is `parity` modulo 2: the current one or, at once, the one before. What
// threads wrote before they arrived, and the bytes that came, are seen after.
FR_DEVICE void mbarrier_wait(Shared<Mbarrier> m, int parity);

// Stores a value of 4, 8 or 16 bytes, aligned to as many, while the thread goes on; the bytes count for the current
// phase of `m`, which lies in the same block. Who reads them waits for that phase.
template <class T>
FR_DEVICE void store_async(Remote<T> to, T value, Remote<Mbarrier> m);

// ------------------------------------------------------------------------------------------------ kernels that overlap
// A kernel launched with Grid::overlaps may begin before the one launched before it on the stream has ended: once all
// of that one's blocks have let it or ended. What that one writes is there after wait_on_dependency(), which each
// thread calls once before it returns; before, a thread reads nothing of it and writes nothing. launch_dependents()
// comes after the wait: so no more than two kernels are under way, and what the one before the previous wrote is there
// from the start. In kernels that overlap with nothing, and below compute capability 9.0, both do nothing.
FR_DEVICE void wait_on_dependency();
FR_DEVICE void launch_dependents();

// ------------------------------------------------------------------------------------------------------------ flags
// A flag is a number in global memory, aligned, by which blocks of a cooperative launch (Grid::cooperative) tell each
// other how far they are. It was cleared by earlier work of the stream, one thread posts, and what it posts only grows,
// modulo 2^32. Only these functions touch it.
//
// What the thread wrote before, and what it knows of others' writes by a barrier, is seen by the thread that polls the
// value.
FR_DEVICE void flag_post(uint32_t* flag, uint32_t value);

// Waits until a value has been posted that is no less. There is no limit on how long: what it waits for has to come.
FR_DEVICE void flag_poll(const uint32_t* flag, uint32_t value);

// ----------------------------------------------------------------------------------------------------- asynchronous
// Copies 4 or 16 bytes of global to shared memory while the thread goes on. Both addresses are aligned to as many; only
// the first `bytes_valid` bytes are read, the others become zero. Copies since the last commit form a group.
template <class T>
FR_DEVICE void copy_async4(Shared<T> to, const T* from, int bytes_valid = 4);
template <class T>
FR_DEVICE void copy_async16(Shared<T> to, const T* from, int bytes_valid = 16);
FR_DEVICE void commit_copies();

// Waits until at most N of this thread's latest groups are under way. Other threads see the bytes after a barrier.
template <int N>
FR_DEVICE void wait_copies();

// ---------------------------------------------------------------------------------------------------- global memory
// Aligned to sizeof(T), which is 1, 2, 4, 8 or 16. Plain dereferencing is allowed as well; on the host these find an
// access outside an allocation exactly, where plain ones are only caught at its guards.
template <class T>
FR_DEVICE T load(const T* p);  // cached
template <class T>
FR_DEVICE T load_constant(const T* p);  // no thread writes it while the kernel runs
template <class T>
FR_DEVICE T load_once(const T* p);  // not needed again: leaves the caches first
template <class T>
FR_DEVICE void store(T* p, T value);
template <class T>
FR_DEVICE void store_once(T* p, T value);

// ------------------------------------------------------------------------------------------------------- arithmetic
// 1 / x within an ulp, of normal x and 1 / x; NaN of NaN. Who needs its bits to be the same everywhere refines it.
FR_BOTH float reciprocal(float x);

// ------------------------------------------------------------------------------------------------------ conversions
// Round to nearest, ties to even; overflow to infinity; NaN stays NaN.
FR_DEVICE float to_float(Bf16 value);
FR_DEVICE float to_float(Fp16 value);
FR_DEVICE Bf16 to_bf16(float value);
FR_DEVICE Fp16 to_fp16(float value);
FR_DEVICE uint32_t to_tf32(float value);  // bits of a float whose low 13 bits are zero

// ----------------------------------------------------------------------------------------------------- tensor cores
// D (16 x 8) += A (16 x K) B (K x 8) by one warp; all 32 lanes call it. K is 8 for tf32 and 16 for bf16 and fp16. With
// g = lane / 4 and t = lane % 4 a lane holds:
//
//   d      d[0] = D[g][2t]    d[1] = D[g][2t + 1]    d[2] = D[g + 8][2t]    d[3] = D[g + 8][2t + 1]
//   tf32   a[0] = A[g][t]     a[1] = A[g + 8][t]     a[2] = A[g][t + 4]     a[3] = A[g + 8][t + 4]
//          b[0] = B[t][g]     b[1] = B[t + 4][g]
//   16 bit a[0] = A[g][2t, 2t + 1]     a[1] = A[g + 8][2t, 2t + 1]     a[2] = A[g][2t + 8, 2t + 9]
//          a[3] = A[g + 8][2t + 8, 2t + 9]     b[0] = B[2t, 2t + 1][g]     b[1] = B[2t + 8, 2t + 9][g]
//
// where a pair shares one register, the lower index in the lower half. Products are exact and sums are float32; their
// order and rounding are the hardware's. The host adds products in ascending k to d, each sum rounded to nearest.
FR_DEVICE void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
FR_DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
FR_DEVICE void mma_fp16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

// Four matrices of 8 rows of 16 bytes by one warp; all 32 lanes call it. Lane i says where row i % 8 of matrix i / 8
// begins, at 16 bytes. words[m] is word t of row g of matrix m, or, transposed, 16-bit values 2t and 2t + 1 of its
// column g: what an operand above wants of rows, or of columns, that lie side by side.
template <bool transposed, class T>
FR_DEVICE void load_matrices(Shared<T> row, uint32_t (&words)[4]);

// ------------------------------------------------------------------------------------------------------------- host
struct Blocks {
  int64_t x = 1;         // at most 2^31 - 1
  int32_t y = 1, z = 1;  // at most 65535
};

struct Grid {
  Blocks blocks;
  int32_t threads;  // a multiple of 32, at most 1024
  size_t shared_bytes = 0;
  int32_t cluster = 1;    // blocks of a cluster, at most 16; blocks.x is a multiple of it
  bool overlaps = false;  // with the launch before it; only where Limits::overlaps
  // All blocks run at the same time, and so may wait for each other; where the device has no room for them, the launch
  // fails. Together with neither of the two above.
  bool cooperative = false;
};

// A grid that has more blocks than the hardware counts fails, before any of them is taken modulo 2^32.
inline Status require_countable(const Blocks& blocks, SourceLocation location) {
  constexpr int64_t kMostX = 2147483647, kMostYZ = 65535;
  const auto within = [](int64_t n, int64_t most) { return n >= 0 && n <= most; };
  if (within(blocks.x, kMostX) && within(blocks.y, kMostYZ) && within(blocks.z, kMostYZ)) return Status::ok;
  return fail(
      Status::unsupported,
      "launch at %s:%d: %lld x %d x %d blocks are more than a GPU counts, which is %lld x %lld x %lld: use fewer "
      "steps, rows or elements at a time",
      source_name(location.file), location.line, static_cast<long long>(blocks.x), blocks.y, blocks.z,
      static_cast<long long>(kMostX), static_cast<long long>(kMostYZ), static_cast<long long>(kMostYZ));
}

// Bytes that a kernel's argument may have everywhere, and on devices whose driver knows long ones.
constexpr size_t kArgument = 4096, kLongArgument = 32764;

template <class Kernel>
struct KernelArgs;
template <class Args>
struct KernelArgs<void (*)(Args)> {
  static_assert(std::is_trivially_copyable_v<Args>, "a kernel takes one trivially copyable struct by value");
  static_assert(sizeof(Args) <= kLongArgument, "the longest argument there is");
  using type = Args;
};

// Runs the kernel on the stream; returns before it has ended. A grid without blocks is no work and no error.
template <auto kernel>
Status launch(const Grid& grid, Stream stream, const typename KernelArgs<decltype(kernel)>::type& args,
              SourceLocation location = SourceLocation::here());

// How many clusters of such a launch the device runs at once; 0 where it has no room for even one.
template <auto kernel>
Status clusters_at_once(const Grid& grid, int32_t* clusters, SourceLocation location = SourceLocation::here());

// How many blocks of such a launch the device runs at once, on all its multiprocessors: what a cooperative one may
// have.
template <auto kernel>
Status blocks_at_once(const Grid& grid, int32_t* blocks, SourceLocation location = SourceLocation::here());

// Device memory, aligned to 64 bytes at least; not initialised. 0 bytes give nullptr. free() takes nullptr, and waits
// for all work of the device.
Status alloc(size_t bytes, void** memory, SourceLocation location = SourceLocation::here());
Status free(void* memory, SourceLocation location = SourceLocation::here());

// The same in the order of a stream: the host does not wait. The memory is there for what comes behind alloc_on in the
// stream, and for other streams' work that waits for that, and is gone for what comes behind free_on. It may be freed
// on any stream, which then has to wait for its last use on the others, or by free(). Failures while the stream is
// captured: memory of graphs is made before.
Status alloc_on(size_t bytes, void** memory, Stream stream, SourceLocation location = SourceLocation::here());
Status free_on(void* memory, Stream stream, SourceLocation location = SourceLocation::here());

// Waits for all work of the calling thread's device and gives what free_on() has freed there back to it. That stays
// with the process otherwise, for alloc_on().
Status trim(SourceLocation location = SourceLocation::here());

// In the order of the stream. Either side of a copy may be host memory; the host side may be used again when copy
// returns, and holds the bytes then.
Status copy(void* to, const void* from, size_t bytes, Stream stream, SourceLocation location = SourceLocation::here());
Status fill(void* to, int value, size_t bytes, Stream stream, SourceLocation location = SourceLocation::here());

// Waits for the stream's work and reports what went wrong in it. A failure while the stream is captured, as copies of
// host memory are.
Status synchronize(Stream stream, SourceLocation location = SourceLocation::here());

// Calls another library's work(), which puts work into the stream and says whether it could. On a GPU that is all; on
// the host the library works at once, so ours is done first, or of a stream that is being captured it becomes a part
// of the graph and answers yes.
template <class Work>
bool call_library(Stream stream, const Work& work, SourceLocation location = SourceLocation::here());

// For as long as one lives the calling thread may do what does not touch a capture in spite of one: another thread's
// capture in the mode `global`, PyTorch's for one, forbids every thread to allocate, and this thread's own does.
class Relaxed;

// An event is where in a stream's work event_record() was called last. Behind event_wait() the stream's work waits for
// that point; of an event that was recorded nowhere yet it does not wait. event_query() asks whether work has come
// there, without waiting, and reports what went wrong before. Events recorded in a captured stream are for streams of
// that capture alone, and events recorded outside not for captured streams.
Status event_create(Event* event, SourceLocation location = SourceLocation::here());
Status event_free(Event event, SourceLocation location = SourceLocation::here());
Status event_record(Event event, Stream stream, SourceLocation location = SourceLocation::here());
Status event_wait(Stream stream, Event event, SourceLocation location = SourceLocation::here());
Status event_query(Event event, bool* yes, SourceLocation location = SourceLocation::here());

// Whether what is put into the stream is recorded in a graph instead of being run, which the caller's may be at any
// time. Kernels are launched plainly then, with their arguments as they are now.
Status capturing(Stream stream, bool* yes, SourceLocation location = SourceLocation::here());

// Calls release(object), on any thread, when nothing can run the graph any more that the stream is captured into. It
// must not come back through it. On failure the object stays the caller's.
Status capture_hold(Stream stream, void* object, void (*release)(void* object),
                    SourceLocation location = SourceLocation::here());

// Own graphs. What is put into the new stream is recorded; capture_end() makes the graph of it, or with nullptr throws
// it away, and ends the stream in any case. The thread calls nothing of the hardware layer in between that allocates,
// frees or waits. A graph may be launched again while it runs, and then runs after that; graph_free() does not wait for
// it.
Status capture_begin(Stream* stream, SourceLocation location = SourceLocation::here());
Status capture_end(Stream stream, Graph* graph, SourceLocation location = SourceLocation::here());
Status graph_launch(Graph graph, Stream stream, SourceLocation location = SourceLocation::here());
Status graph_free(Graph graph, SourceLocation location = SourceLocation::here());

// The index of the calling thread's device.
Status current_device(int32_t* device, SourceLocation location = SourceLocation::here());

// Whose memory it is: a device's index, -1 where it is no device's.
Status device_of(const void* memory, int32_t* device, SourceLocation location = SourceLocation::here());

// What the driver says of this machine.
Machine machine();

// The calling thread's device: what plans go by, and all there is to say.
struct Limits {
  int32_t compute_major, multiprocessors;
  size_t shared_per_block, argument_bytes;
  bool overlaps;  // whether Grid::overlaps may be asked for
};
Status device_limits(Limits* limits, SourceLocation location = SourceLocation::here());

struct DeviceInfo {
  char name[256];
  int32_t index, compute_major, compute_minor, multiprocessors;
  size_t memory, shared_per_block, shared_per_multiprocessor;
};
Status device_info(DeviceInfo* info, SourceLocation location = SourceLocation::here());

}  // namespace fusedrnn::cuda::hw

#if defined(FUSEDRNN_SIMT)
#include "device_simt.hpp"
#else
#include "hw/device_cuda.cuh"
#endif
