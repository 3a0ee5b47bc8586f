// The hardware layer's implementation on the host. The contract of each function is in cuda/hw/device.cuh.
#pragma once

#include <typeinfo>

#include "number.hpp"
#include "runtime.hpp"
#include "shared.hpp"

namespace fusedrnn::cuda::hw {

FR_DEVICE int thread() { return simt::here->thread; }
FR_DEVICE int threads() { return simt::here->threads; }
FR_DEVICE int lane() { return simt::here->thread % kWarp; }
FR_DEVICE int warp() { return simt::here->thread / kWarp; }
FR_DEVICE int64_t block_x() { return simt::here->block[0]; }
FR_DEVICE int block_y() { return static_cast<int>(simt::here->block[1]); }
FR_DEVICE int block_z() { return static_cast<int>(simt::here->block[2]); }
FR_DEVICE int64_t blocks_x() { return simt::here->blocks[0]; }
FR_DEVICE int blocks_y() { return static_cast<int>(simt::here->blocks[1]); }
FR_DEVICE int blocks_z() { return static_cast<int>(simt::here->blocks[2]); }

FR_DEVICE int64_t keep(int64_t value) { return value; }
FR_DEVICE uint32_t keep(uint32_t value) { return value; }

FR_DEVICE void barrier() { simt::barrier(); }
FR_DEVICE void warp_barrier() { simt::warp_barrier(); }

template <class T>
FR_DEVICE T shuffle_xor(T value, int mask) {
  return shuffle(value, lane() ^ mask);
}

template <class T>
FR_DEVICE T shuffle(T value, int from) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle moves 4 or 8 bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = simt::shuffle(bits, from);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

FR_DEVICE uint32_t ballot(bool yes) { return simt::ballot(yes); }
FR_DEVICE int ones(uint32_t bits) { return __builtin_popcount(bits); }

template <class T>
FR_DEVICE Shared<T> shared(int64_t byte_offset, int64_t count) {
  unsigned char* last;
  T* first = static_cast<T*>(
      simt::shared_array(byte_offset, count < 0 ? -1 : count * static_cast<int64_t>(sizeof(T)), alignof(T), &last));
  return {first, first, reinterpret_cast<T*>(last)};
}

template <class U, class T>
FR_DEVICE Shared<U> recast(Shared<T> s) {
  const auto as = [](T* p) { return reinterpret_cast<U*>(p); };
  return {as(s.at()), as(s.first()), as(s.last())};
}

constexpr bool kClusters = true;

FR_DEVICE int cluster_rank() { return simt::here->cluster_rank; }
FR_DEVICE int cluster_blocks() { return simt::here->cluster_blocks; }
FR_DEVICE void cluster_arrive() { simt::cluster_arrive(); }
FR_DEVICE void cluster_wait() { simt::cluster_wait(); }

template <class T>
FR_DEVICE Remote<T> remote(Shared<T> s, int rank) {
  return Remote<T>(simt::remote(s.at(), s.first(), s.last(), rank));
}

template <class T>
FR_DEVICE T load(Remote<T> from) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "4, 8 or 16 bytes");
  T value;
  simt::remote_load(from.there(), &value, sizeof value);
  return value;
}

template <class T>
FR_DEVICE void store(Remote<T> to, T value) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "4, 8 or 16 bytes");
  simt::remote_store(to.there(), &value, sizeof value);
}

FR_DEVICE void mbarrier_init(Shared<Mbarrier> m, int arrivals) { simt::mbarrier_init(m.at(), arrivals); }
FR_DEVICE void mbarrier_arrive(Remote<Mbarrier> m) { simt::mbarrier_arrive(m.there()); }
FR_DEVICE void mbarrier_arrive_expect(Shared<Mbarrier> m, int bytes) { simt::mbarrier_arrive_expect(m.at(), bytes); }
FR_DEVICE void mbarrier_wait(Shared<Mbarrier> m, int parity) { simt::mbarrier_wait(m.at(), parity); }

template <class T>
FR_DEVICE void store_async(Remote<T> to, T value, Remote<Mbarrier> m) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "4, 8 or 16 bytes");
  simt::store_async(to.there(), &value, sizeof value, m.there());
}

FR_DEVICE void wait_on_dependency() { simt::wait_on_dependency(); }
FR_DEVICE void launch_dependents() { simt::launch_dependents(); }

FR_DEVICE void flag_post(uint32_t* flag, uint32_t value) { simt::flag_post(flag, value); }
FR_DEVICE void flag_poll(const uint32_t* flag, uint32_t value) { simt::flag_poll(flag, value); }

template <class T>
FR_DEVICE void copy_async4(Shared<T> to, const T* from, int bytes_valid) {
  if (to.at() < to.first() ||
      reinterpret_cast<unsigned char*>(to.at()) + 4 > reinterpret_cast<unsigned char*>(to.last()))
    simt::outside_shared(to.at(), 4, to.first(), to.last());
  simt::copy_async(to.at(), from, 4, bytes_valid);
}

template <class T>
FR_DEVICE void copy_async16(Shared<T> to, const T* from, int bytes_valid) {
  if (to.at() < to.first() ||
      reinterpret_cast<unsigned char*>(to.at()) + 16 > reinterpret_cast<unsigned char*>(to.last()))
    simt::outside_shared(to.at(), 16, to.first(), to.last());
  simt::copy_async(to.at(), from, 16, bytes_valid);
}

FR_DEVICE void commit_copies() { simt::commit_copies(); }

template <int N>
FR_DEVICE void wait_copies() {
  simt::wait_copies(N);
}

template <class T>
FR_DEVICE T load(const T* p) {
  simt::require_global(p, sizeof(T), false);
  return *p;
}

template <class T>
FR_DEVICE T load_constant(const T* p) {
  return load(p);
}

template <class T>
FR_DEVICE T load_once(const T* p) {
  return load(p);
}

template <class T>
FR_DEVICE void store(T* p, T value) {
  simt::require_global(p, sizeof(T), true);
  *p = value;
}

template <class T>
FR_DEVICE void store_once(T* p, T value) {
  store(p, value);
}

FR_BOTH float reciprocal(float x) { return simt::rough_reciprocal(x); }

FR_DEVICE float to_float(Bf16 value) { return simt::float_of_bf16(value.bits); }
FR_DEVICE float to_float(Fp16 value) { return simt::float_of_fp16(value.bits); }
FR_DEVICE Bf16 to_bf16(float value) { return {simt::bf16_bits(value)}; }
FR_DEVICE Fp16 to_fp16(float value) { return {simt::fp16_bits(value)}; }
FR_DEVICE uint32_t to_tf32(float value) { return simt::tf32_bits(value); }

FR_DEVICE void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  simt::mma(simt::Operand::tf32, d, a, b);
}
FR_DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  simt::mma(simt::Operand::bf16, d, a, b);
}
FR_DEVICE void mma_fp16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  simt::mma(simt::Operand::fp16, d, a, b);
}

template <bool transposed, class T>
FR_DEVICE void load_matrices(Shared<T> row, uint32_t (&words)[4]) {
  const auto end = reinterpret_cast<const unsigned char*>(row.at()) + 16;
  if (row.at() < row.first() || end > reinterpret_cast<const unsigned char*>(row.last()))
    simt::outside_shared(row.at(), 16, row.first(), row.last());
  simt::load_matrices(row.at(), transposed, words);
}

// ------------------------------------------------------------------------------------------------------------- host
template <auto kernel>
struct Named;

template <auto kernel>
Status launch(const Grid& grid, Stream stream, const typename KernelArgs<decltype(kernel)>::type& args,
              SourceLocation location) {
  using Args = typename KernelArgs<decltype(kernel)>::type;
  if (const Status status = require_countable(grid.blocks, location); status != Status::ok) return status;
  const simt::LaunchShape shape = {typeid(Named<kernel>*).name(),
                                   {grid.blocks.x, grid.blocks.y, grid.blocks.z},
                                   grid.threads,
                                   grid.shared_bytes,
                                   grid.cluster,
                                   sizeof(Args),
                                   grid.overlaps,
                                   grid.cooperative};
  simt::note_launch(shape);
  return simt::launch(
      shape, stream, [](const void* a) { kernel(*static_cast<const Args*>(a)); }, &args, sizeof args,
      __PRETTY_FUNCTION__, location);
}

template <auto kernel>
Status clusters_at_once(const Grid& grid, int32_t* clusters, SourceLocation) {
  *clusters = grid.cluster > simt::most_cluster_blocks() ? 0 : simt::kMultiprocessors / grid.cluster;
  return Status::ok;
}

// One for each multiprocessor.
template <auto kernel>
Status blocks_at_once(const Grid&, int32_t* blocks, SourceLocation) {
  *blocks = simt::most_blocks();
  return Status::ok;
}

inline Status alloc(size_t bytes, void** memory, SourceLocation location) {
  return simt::alloc(bytes, memory, location);
}
inline Status free(void* memory, SourceLocation location) { return simt::free(memory, location); }
inline Status alloc_on(size_t bytes, void** memory, Stream stream, SourceLocation location) {
  return simt::alloc_on(bytes, memory, stream, location);
}
inline Status free_on(void* memory, Stream stream, SourceLocation location) {
  return simt::free_on(memory, stream, location);
}
inline Status trim(SourceLocation) {
  simt::trim();
  return Status::ok;
}
inline Status copy(void* to, const void* from, size_t bytes, Stream stream, SourceLocation location) {
  return simt::copy(to, from, bytes, stream, location);
}
inline Status fill(void* to, int value, size_t bytes, Stream stream, SourceLocation location) {
  return simt::fill(to, value, bytes, stream, location);
}
inline Status synchronize(Stream stream, SourceLocation location) { return simt::synchronize(stream, location); }

template <class Work>
bool call_library(Stream stream, const Work& work, SourceLocation location) {
  bool captured = false;
  if (simt::capturing(stream, &captured, location) != Status::ok) return false;
  if (!captured) return simt::synchronize(stream, location) == Status::ok && work();
  return simt::call_later(stream, work, location) == Status::ok;
}

class Relaxed {
 public:
  Relaxed() { ++simt::relaxed; }
  ~Relaxed() { --simt::relaxed; }
  Relaxed(const Relaxed&) = delete;
  Relaxed& operator=(const Relaxed&) = delete;
};

inline Status event_create(Event* event, SourceLocation location) { return simt::event_create(event, location); }
inline Status event_free(Event event, SourceLocation location) { return simt::event_free(event, location); }
inline Status event_record(Event event, Stream stream, SourceLocation location) {
  return simt::event_record(event, stream, location);
}
inline Status event_wait(Stream stream, Event event, SourceLocation location) {
  return simt::event_wait(stream, event, location);
}
inline Status event_query(Event event, bool* yes, SourceLocation location) {
  return simt::event_query(event, yes, location);
}
inline Status capturing(Stream stream, bool* yes, SourceLocation location) {
  return simt::capturing(stream, yes, location);
}
inline Status capture_hold(Stream stream, void* object, void (*release)(void*), SourceLocation location) {
  return simt::capture_hold(stream, object, release, location);
}
inline Status capture_begin(Stream* stream, SourceLocation location) { return simt::capture_begin(stream, location); }
inline Status capture_end(Stream stream, Graph* graph, SourceLocation location) {
  return simt::capture_end(stream, graph, location);
}
inline Status graph_launch(Graph graph, Stream stream, SourceLocation location) {
  return simt::graph_launch(graph, stream, location);
}
inline Status graph_free(Graph graph, SourceLocation location) { return simt::graph_free(graph, location); }

inline Status current_device(int32_t* device, SourceLocation) {
  *device = simt::current_device();
  return Status::ok;
}

inline Status device_of(const void* memory, int32_t* device, SourceLocation) {
  *device = simt::device_of(memory);
  return Status::ok;
}

inline Machine machine() { return {13000, 13000, 1, nullptr, nullptr, "host emulator", 90, 80}; }

inline Status device_limits(Limits* limits, SourceLocation) {
  *limits = {simt::compute_major(), simt::kMultiprocessors, simt::kMaxShared, simt::argument_bytes(),
             simt::compute_major() >= 9};
  return Status::ok;
}

inline Status device_info(DeviceInfo* info, SourceLocation) {
  *info = {"host emulator",        simt::current_device(), simt::compute_major(), 0,
           simt::kMultiprocessors, simt::device_bytes(),   simt::kMaxShared,      simt::kMaxShared + 1024};
  return Status::ok;
}

}  // namespace fusedrnn::cuda::hw
