// The hardware layer's implementation for nvcc. The contract of each function is in device.cuh.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <atomic>
#include <cstdlib>
#include <mutex>

// What a kernel fails by is declared where NDEBUG is not defined, as it is in the plugin's build.
#pragma push_macro("NDEBUG")
#undef NDEBUG
#include <cassert>
#pragma pop_macro("NDEBUG")

namespace fusedrnn::cuda::hw {

FR_DEVICE int thread() { return static_cast<int>(threadIdx.x); }
FR_DEVICE int threads() { return static_cast<int>(blockDim.x); }
FR_DEVICE int lane() { return static_cast<int>(threadIdx.x) & (kWarp - 1); }
FR_DEVICE int warp() { return static_cast<int>(threadIdx.x) / kWarp; }
FR_DEVICE int64_t block_x() { return blockIdx.x; }
FR_DEVICE int block_y() { return static_cast<int>(blockIdx.y); }
FR_DEVICE int block_z() { return static_cast<int>(blockIdx.z); }
FR_DEVICE int64_t blocks_x() { return gridDim.x; }
FR_DEVICE int blocks_y() { return static_cast<int>(gridDim.y); }
FR_DEVICE int blocks_z() { return static_cast<int>(gridDim.z); }

FR_DEVICE void barrier() { __syncthreads(); }
FR_DEVICE void warp_barrier() { __syncwarp(); }

template <class T>
FR_DEVICE T shuffle_xor(T value, int mask) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle moves 4 or 8 bytes");
  return __shfl_xor_sync(0xffffffffu, value, mask);
}

template <class T>
FR_DEVICE T shuffle(T value, int from) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle moves 4 or 8 bytes");
  return __shfl_sync(0xffffffffu, value, from);
}

FR_DEVICE uint32_t ballot(bool yes) { return __ballot_sync(~0u, yes); }
FR_DEVICE int ones(uint32_t bits) { return __popc(bits); }

extern __shared__ __align__(128) unsigned char dynamic_shared[];

template <class T>
FR_DEVICE Shared<T> shared(int64_t byte_offset, int64_t) {
  return reinterpret_cast<T*>(dynamic_shared + byte_offset);
}

template <class U, class T>
FR_DEVICE Shared<U> recast(Shared<T> s) {
  return reinterpret_cast<U*>(s);
}

FR_DEVICE void wait_on_dependency() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

FR_DEVICE void launch_dependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

template <class T>
FR_DEVICE void copy_async4(Shared<T> to, const T* from, int bytes_valid) {
  asm volatile(
      "cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(to))),
      "l"(__cvta_generic_to_global(from)), "r"(bytes_valid)
      : "memory");
}

template <class T>
FR_DEVICE void copy_async16(Shared<T> to, const T* from, int bytes_valid) {
  asm volatile(
      "cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(to))),
      "l"(__cvta_generic_to_global(from)), "r"(bytes_valid)
      : "memory");
}

FR_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int N>
FR_DEVICE void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// The built-in type of a size: what the caching loads and stores are defined for.
template <size_t Bytes>
struct Word;
template <>
struct Word<1> {
  using type = unsigned char;
};
template <>
struct Word<2> {
  using type = unsigned short;
};
template <>
struct Word<4> {
  using type = unsigned int;
};
template <>
struct Word<8> {
  using type = uint2;
};
template <>
struct Word<16> {
  using type = uint4;
};

template <class To, class From>
FR_DEVICE To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From) && std::is_trivially_copyable_v<To> && std::is_trivially_copyable_v<From>);
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr bool kClusters = false;
#else
constexpr bool kClusters = true;
#endif

FR_DEVICE int cluster_rank() {
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return static_cast<int>(rank);
}

FR_DEVICE int cluster_blocks() {
  uint32_t blocks;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(blocks));
  return static_cast<int>(blocks);
}

FR_DEVICE int64_t keep(int64_t value) {
  asm volatile("" : "+l"(value));
  return value;
}
FR_DEVICE uint32_t keep(uint32_t value) {
  asm volatile("" : "+r"(value));
  return value;
}

FR_DEVICE void cluster_arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
FR_DEVICE void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

template <class T>
FR_DEVICE uint32_t shared_address(Shared<T> s) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(s));
}

template <class T>
FR_DEVICE Remote<T> remote(Shared<T> s, int rank) {
  Remote<T> there;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there.address) : "r"(shared_address(s)), "r"(rank));
  return there;
}

template <class T>
FR_DEVICE T load(Remote<T> from) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "4, 8 or 16 bytes");
  if constexpr (sizeof(T) == 4) {
    uint32_t v;
    asm volatile("ld.shared::cluster.b32 %0, [%1];" : "=r"(v) : "r"(from.address) : "memory");
    return bit_cast<T>(v);
  } else if constexpr (sizeof(T) == 8) {
    uint64_t v;
    asm volatile("ld.shared::cluster.b64 %0, [%1];" : "=l"(v) : "r"(from.address) : "memory");
    return bit_cast<T>(v);
  } else {
    uint4 v;
    asm volatile("ld.shared::cluster.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(from.address)
                 : "memory");
    return bit_cast<T>(v);
  }
}

template <class T>
FR_DEVICE void store(Remote<T> to, T value) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "4, 8 or 16 bytes");
  if constexpr (sizeof(T) == 4) {
    asm volatile("st.shared::cluster.b32 [%0], %1;" ::"r"(to.address), "r"(bit_cast<uint32_t>(value)) : "memory");
  } else if constexpr (sizeof(T) == 8) {
    asm volatile("st.shared::cluster.b64 [%0], %1;" ::"r"(to.address), "l"(bit_cast<uint64_t>(value)) : "memory");
  } else {
    const uint4 v = bit_cast<uint4>(value);
    asm volatile("st.shared::cluster.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to.address), "r"(v.x), "r"(v.y), "r"(v.z),
                 "r"(v.w)
                 : "memory");
  }
}

// The fence makes the object known to the cluster, whatever barrier follows.
FR_DEVICE void mbarrier_init(Shared<Mbarrier> m, int arrivals) {
  asm volatile(
      "mbarrier.init.shared::cta.b64 [%0], %1;\n\t"
      "fence.mbarrier_init.release.cluster;" ::"r"(shared_address(m)),
      "r"(arrivals)
      : "memory");
}

FR_DEVICE void mbarrier_arrive(Remote<Mbarrier> m) {
  asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(m.address) : "memory");
}

FR_DEVICE void mbarrier_arrive_expect(Shared<Mbarrier> m, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(m)), "r"(bytes)
               : "memory");
}

// A wait that no other block ends must not hang the GPU: after this many seconds of it the kernel fails, and says on
// stderr which wait it was. 0 waits for ever, to measure what the limit costs.
#ifndef FUSEDRNN_WAIT_SECONDS
#define FUSEDRNN_WAIT_SECONDS 20
#endif
class WaitLimit {
 public:
  // After a poll in vain. The clock is read now and then only.
  FR_DEVICE void in_vain(const char* wait) {
    if constexpr (FUSEDRNN_WAIT_SECONDS > 0) {
      if (++polls_ % 1024 != 0) return;
      uint64_t now;
      asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
      if (begin_ == 0) begin_ = now;
      constexpr uint64_t kNanoseconds = FUSEDRNN_WAIT_SECONDS * UINT64_C(1000000000);
      if (now - begin_ > kNanoseconds) __assert_fail("the wait ends", __FILE__, __LINE__, wait);
    }
  }

 private:
  uint32_t polls_ = 0;
  uint64_t begin_ = 0;
};

FR_DEVICE void mbarrier_wait(Shared<Mbarrier> m, int parity) {
  WaitLimit limit;
  while (true) {
    uint32_t ended;
    asm volatile(
        "{\n\t"
        ".reg .pred ended;\n\t"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 ended, [%1], %2;\n\t"
        "selp.u32 %0, 1, 0, ended;\n\t"
        "}"
        : "=r"(ended)
        : "r"(shared_address(m)), "r"(parity)
        : "memory");
    if (ended != 0) return;
    limit.in_vain("mbarrier_wait");
  }
}

template <class T>
FR_DEVICE void store_async(Remote<T> to, T value, Remote<Mbarrier> m) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "4, 8 or 16 bytes");
  if constexpr (sizeof(T) == 4) {
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(to.address),
                 "r"(bit_cast<uint32_t>(value)), "r"(m.address)
                 : "memory");
  } else if constexpr (sizeof(T) == 8) {
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b64 [%0], %1, [%2];" ::"r"(to.address),
                 "l"(bit_cast<uint64_t>(value)), "r"(m.address)
                 : "memory");
  } else {
    const uint4 v = bit_cast<uint4>(value);
    asm volatile(
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(to.address),
        "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w), "r"(m.address)
        : "memory");
  }
}

// Released and acquired for the whole GPU: the acquisition is a fence behind the polls, for each poll that acquires
// would empty the L1 cache. The poll takes turns with the other warps of the multiprocessor.
FR_DEVICE void flag_post(uint32_t* flag, uint32_t value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(flag)), "r"(value) : "memory");
}

FR_DEVICE void flag_poll(const uint32_t* flag, uint32_t value) {
  WaitLimit limit;
  while (true) {
    uint32_t posted;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(posted) : "l"(__cvta_generic_to_global(flag)) : "memory");
    if (static_cast<int32_t>(posted - value) >= 0) break;
    limit.in_vain("flag_poll");
  }
  asm volatile("fence.acq_rel.gpu;" ::: "memory");
}

template <class T>
FR_DEVICE T load(const T* p) {
  return *p;
}

template <class T>
FR_DEVICE T load_constant(const T* p) {
  return bit_cast<T>(__ldg(reinterpret_cast<const typename Word<sizeof(T)>::type*>(p)));
}

template <class T>
FR_DEVICE T load_once(const T* p) {
  return bit_cast<T>(__ldcs(reinterpret_cast<const typename Word<sizeof(T)>::type*>(p)));
}

template <class T>
FR_DEVICE void store(T* p, T value) {
  *p = value;
}

template <class T>
FR_DEVICE void store_once(T* p, T value) {
  using W = typename Word<sizeof(T)>::type;
  __stcs(reinterpret_cast<W*>(p), bit_cast<W>(value));
}

FR_BOTH float reciprocal(float x) {
#if defined(__CUDA_ARCH__)
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
#else
  return 1.0f / x;
#endif
}

FR_DEVICE float to_float(Bf16 value) { return __uint_as_float(static_cast<uint32_t>(value.bits) << 16); }
FR_DEVICE float to_float(Fp16 value) { return __half2float(__ushort_as_half(value.bits)); }
FR_DEVICE Bf16 to_bf16(float value) { return {__bfloat16_as_ushort(__float2bfloat16_rn(value))}; }
FR_DEVICE Fp16 to_fp16(float value) { return {__half_as_ushort(__float2half_rn(value))}; }

FR_DEVICE uint32_t to_tf32(float value) {
#if __CUDA_ARCH__ >= 900
  uint32_t bits;
  asm("cvt.rn.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
#else
  // sm_80 can round ties only away from zero.
  const uint32_t bits = __float_as_uint(value);
  if (value != value) return 0x7fffffffu;
  return (bits + 0xfffu + (bits >> 13 & 1u)) & ~0x1fffu;
#endif
}

FR_DEVICE void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

FR_DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

FR_DEVICE void mma_fp16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <bool transposed, class T>
FR_DEVICE void load_matrices(Shared<T> row, uint32_t (&words)[4]) {
  const auto at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(at)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(at)
                 : "memory");
}

// ------------------------------------------------------------------------------------------------------------- host
// `result` of the CUDA call whose text the format makes, as a Status.
__attribute__((format(printf, 3, 4))) inline Status check(cudaError_t result, SourceLocation location,
                                                          const char* format, ...) {
  if (result == cudaSuccess) return Status::ok;
  char call[512];
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(call, sizeof call, format, arguments);
  va_end(arguments);
  return fail(result == cudaErrorMemoryAllocation ? Status::out_of_memory : Status::device_error, "%s at %s:%d: %s",
              call, source_name(location.file), location.line, cudaGetErrorString(result));
}

// A launch on its way to the runtime.
template <auto kernel>
struct Launch {
  cudaLaunchConfig_t config = {};
  cudaLaunchAttribute attributes[3] = {};
  const void* const function = reinterpret_cast<const void*>(kernel);

  // What the kernel was asked for before: the runtime keeps it for each device, here a bit. A launch is the host's
  // most frequent call, and to ask costs as much.
  static inline std::atomic<uint64_t> carved{0}, shared_asked{0}, clusters_asked{0};
  template <class Ask>
  static Status once(std::atomic<uint64_t>& asked, int device, const Ask& ask) {
    const uint64_t bit = device < 64 ? uint64_t{1} << device : 0;
    if ((asked.load(std::memory_order_relaxed) & bit) != 0) return Status::ok;
    const Status status = ask();
    if (status == Status::ok) asked.fetch_or(bit, std::memory_order_relaxed);
    return status;
  }

  Launch() = default;
  Launch(const Launch&) = delete;

  // What has to be asked for before the kernel can be launched like that.
  Status prepare(const Grid& grid, SourceLocation location) {
    constexpr size_t kWithoutAsking = 48 * 1024, kLarge = 32 * 1024;
    constexpr int32_t kPortableCluster = 8;
    const bool large = grid.shared_bytes >= kLarge, more_shared = grid.shared_bytes > kWithoutAsking;
    const bool larger_clusters = grid.cluster > kPortableCluster;
    const auto ask = [&](cudaFuncAttribute attribute, int value) {
      return check(cudaFuncSetAttribute(function, attribute, value), grid, location, "cudaFuncSetAttribute");
    };
    Status status = Status::ok;
    int device = 0;
    if (large || larger_clusters) status = hw::check(cudaGetDevice(&device), location, "cudaGetDevice");
    // Blocks of two launches that overlap fit on a multiprocessor only if it gives shared memory all that it can, and
    // one that has to change that runs empty before.
    if (status == Status::ok && large)
      status = once(carved, device, [&] {
        return ask(cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
      });
    if (status == Status::ok && more_shared)
      status = once(shared_asked, device, [&] {
        // All that a block can have, whatever this one takes: the setting is the kernel's, and a thread that asked for
        // less would take it from another's launch.
        int most = 0;
        const Status known = hw::check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
                                       location, "cudaDeviceGetAttribute(%d, %d)",
                                       static_cast<int>(cudaDevAttrMaxSharedMemoryPerBlockOptin), device);
        return known == Status::ok ? ask(cudaFuncAttributeMaxDynamicSharedMemorySize, most) : known;
      });
    if (status == Status::ok && larger_clusters)
      status = once(clusters_asked, device, [&] { return ask(cudaFuncAttributeNonPortableClusterSizeAllowed, 1); });
    config.gridDim = dim3(static_cast<unsigned>(grid.blocks.x), static_cast<unsigned>(grid.blocks.y),
                          static_cast<unsigned>(grid.blocks.z));
    config.blockDim = dim3(static_cast<unsigned>(grid.threads));
    config.dynamicSmemBytes = grid.shared_bytes;
    config.attrs = attributes;
    if (grid.cluster > 1) {
      cudaLaunchAttribute& cluster = attributes[config.numAttrs++];
      cluster.id = cudaLaunchAttributeClusterDimension;
      cluster.val.clusterDim.x = static_cast<unsigned>(grid.cluster);
      cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
    }
    if (grid.overlaps) {
      cudaLaunchAttribute& overlap = attributes[config.numAttrs++];
      overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
      overlap.val.programmaticStreamSerializationAllowed = 1;
    }
    if (grid.cooperative) {
      cudaLaunchAttribute& cooperative = attributes[config.numAttrs++];
      cooperative.id = cudaLaunchAttributeCooperative;
      cooperative.val.cooperative = 1;
    }
    return status;
  }

  Status check(cudaError_t result, const Grid& grid, SourceLocation location, const char* call) const {
    if (result == cudaSuccess) return Status::ok;
    const char* name = "a kernel";
    if (cudaFuncGetName(&name, function) != cudaSuccess) (void)cudaGetLastError();
    return hw::check(result, location,
                     "%s of %s over %lld x %d x %d blocks of %d threads, clusters of %d, %zu bytes of shared memory%s",
                     call, name, static_cast<long long>(grid.blocks.x), grid.blocks.y, grid.blocks.z, grid.threads,
                     grid.cluster, grid.shared_bytes, grid.cooperative ? ", cooperative" : "");
  }
};

template <auto kernel>
Status launch(const Grid& grid, Stream stream, const typename KernelArgs<decltype(kernel)>::type& args,
              SourceLocation location) {
  if (grid.blocks.x == 0 || grid.blocks.y == 0 || grid.blocks.z == 0) return Status::ok;
  Launch<kernel> launch;
  Status status = require_countable(grid.blocks, location);
  if (status == Status::ok) status = launch.prepare(grid, location);
  if (status != Status::ok) return status;
  launch.config.stream = static_cast<cudaStream_t>(stream);
  void* pointers[] = {const_cast<void*>(static_cast<const void*>(&args))};
  return launch.check(cudaLaunchKernelExC(&launch.config, launch.function, pointers), grid, location,
                      "cudaLaunchKernelExC");
}

template <auto kernel>
Status blocks_at_once(const Grid& grid, int32_t* blocks, SourceLocation location) {
  Launch<kernel> launch;
  Status status = launch.prepare(grid, location);
  int on_each = 0, device = 0, multiprocessors = 0;
  if (status == Status::ok)
    status = launch.check(
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&on_each, launch.function, grid.threads, grid.shared_bytes), grid,
        location, "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  if (status == Status::ok) status = check(cudaGetDevice(&device), location, "cudaGetDevice");
  if (status == Status::ok)
    status = check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device), location,
                   "cudaDeviceGetAttribute(%d, %d)", static_cast<int>(cudaDevAttrMultiProcessorCount), device);
  *blocks = on_each * multiprocessors;
  return status;
}

template <auto kernel>
Status clusters_at_once(const Grid& grid, int32_t* clusters, SourceLocation location) {
  // A block alone is launched without a size of clusters, and the runtime refuses to count clusters of no size.
  if (grid.cluster == 1) return blocks_at_once<kernel>(grid, clusters, location);
  Launch<kernel> launch;
  const Status status = launch.prepare(grid, location);
  if (status != Status::ok) return status;
  const cudaError_t result = cudaOccupancyMaxActiveClusters(clusters, launch.function, &launch.config);
  // More than the device, or the part of it that this process has, puts into one cluster.
  if (result == cudaErrorInvalidClusterSize) {
    (void)cudaGetLastError();
    *clusters = 0;
    return Status::ok;
  }
  return launch.check(result, grid, location, "cudaOccupancyMaxActiveClusters");
}

class Relaxed {
 public:
  Relaxed() { (void)cudaThreadExchangeStreamCaptureMode(&mode_); }
  ~Relaxed() { (void)cudaThreadExchangeStreamCaptureMode(&mode_); }
  Relaxed(const Relaxed&) = delete;
  Relaxed& operator=(const Relaxed&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

inline Status alloc(size_t bytes, void** memory, SourceLocation location) {
  *memory = nullptr;
  if (bytes == 0) return Status::ok;
  const Relaxed relaxed;
  return check(cudaMalloc(memory, bytes), location, "cudaMalloc(%zu)", bytes);
}

inline Status free(void* memory, SourceLocation location) {
  const Relaxed relaxed;
  return check(cudaFree(memory), location, "cudaFree(%p)", memory);
}

inline Status copy(void* to, const void* from, size_t bytes, Stream stream, SourceLocation location) {
  if (bytes == 0) return Status::ok;
  const cudaStream_t on = static_cast<cudaStream_t>(stream);
  const Status status = check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, on), location,
                              "cudaMemcpyAsync(%p, %p, %zu)", to, from, bytes);
  if (status != Status::ok) return status;
  // Copies of pageable memory have ended or were buffered by now; those of pinned memory are under way.
  for (const void* side : {static_cast<const void*>(to), from}) {
    cudaPointerAttributes attributes;
    const Status known =
        check(cudaPointerGetAttributes(&attributes, side), location, "cudaPointerGetAttributes(%p)", side);
    if (known != Status::ok) return known;
    if (attributes.type == cudaMemoryTypeHost) return synchronize(stream, location);
  }
  return Status::ok;
}

inline Status fill(void* to, int value, size_t bytes, Stream stream, SourceLocation location) {
  if (bytes == 0) return Status::ok;
  return check(cudaMemsetAsync(to, value, bytes, static_cast<cudaStream_t>(stream)), location,
               "cudaMemsetAsync(%p, %d, %zu)", to, value, bytes);
}

inline Status synchronize(Stream stream, SourceLocation location) {
  return check(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)), location, "cudaStreamSynchronize(%p)", stream);
}

template <class Work>
bool call_library(Stream, const Work& work, SourceLocation) {
  return work();
}

// ----------------------------------------------------------------------------------------------------------- streams
// The calling thread's device's pool for alloc_on, never destroyed; nullptr where the device has none. It is not the
// device's default pool, which belongs to the process. What is freed stays in it: the default is to give all that is
// free back at every synchronisation, and to take it anew costs as much as cudaMalloc.
inline Status own_pool(cudaMemPool_t* pool, SourceLocation location) {
  constexpr int kDevices = 64;
  static std::mutex mutex;
  static cudaMemPool_t pools[kDevices];
  static bool asked[kDevices];
  int32_t device = 0;
  Status status = current_device(&device, location);
  if (status != Status::ok) return status;
  if (device >= kDevices) return fail(Status::unsupported, "device %d: at most %d are provided for", device, kDevices);
  const std::lock_guard<std::mutex> lock(mutex);
  *pool = pools[device];
  if (asked[device]) return Status::ok;
  int supported = 0;
  status = check(cudaDeviceGetAttribute(&supported, cudaDevAttrMemoryPoolsSupported, device), location,
                 "cudaDeviceGetAttribute(%d, %d)", static_cast<int>(cudaDevAttrMemoryPoolsSupported), device);
  if (status == Status::ok && supported != 0) {
    cudaMemPoolProps properties = {};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location.type = cudaMemLocationTypeDevice;
    properties.location.id = device;
    status = check(cudaMemPoolCreate(pool, &properties), location, "cudaMemPoolCreate on device %d", device);
    uint64_t all = UINT64_MAX;
    if (status == Status::ok)
      status = check(cudaMemPoolSetAttribute(*pool, cudaMemPoolAttrReleaseThreshold, &all), location,
                     "cudaMemPoolSetAttribute(cudaMemPoolAttrReleaseThreshold)");
  }
  if (status != Status::ok) return status;
  asked[device] = true;
  pools[device] = *pool;
  return Status::ok;
}

inline Status capturing(Stream stream, bool* yes, SourceLocation location) {
  cudaStreamCaptureStatus now = cudaStreamCaptureStatusNone;
  const Status status = check(cudaStreamIsCapturing(static_cast<cudaStream_t>(stream), &now), location,
                              "cudaStreamIsCapturing(%p)", stream);
  *yes = now != cudaStreamCaptureStatusNone;
  return status;
}

// The runtime would make memory a part of the graph.
inline Status require_no_capture(Stream stream, const char* call, SourceLocation location) {
  bool captured = false;
  const Status status = capturing(stream, &captured, location);
  if (status != Status::ok || !captured) return status;
  return fail(Status::device_error, "%s at %s:%d: stream %p is being captured into a graph", call,
              source_name(location.file), location.line, stream);
}

inline Status alloc_on(size_t bytes, void** memory, Stream stream, SourceLocation location) {
  *memory = nullptr;
  if (bytes == 0) return Status::ok;
  Status status = require_no_capture(stream, "alloc_on", location);
  cudaMemPool_t pool = nullptr;
  const Relaxed relaxed;
  if (status == Status::ok) status = own_pool(&pool, location);
  if (status != Status::ok) return status;
  if (pool == nullptr) return alloc(bytes, memory, location);
  return check(cudaMallocFromPoolAsync(memory, bytes, pool, static_cast<cudaStream_t>(stream)), location,
               "cudaMallocFromPoolAsync(%zu, %p)", bytes, stream);
}

inline Status free_on(void* memory, Stream stream, SourceLocation location) {
  if (memory == nullptr) return Status::ok;
  Status status = require_no_capture(stream, "free_on", location);
  cudaMemPool_t pool = nullptr;
  const Relaxed relaxed;
  if (status == Status::ok) status = own_pool(&pool, location);
  if (status != Status::ok) return status;
  if (pool == nullptr) return free(memory, location);
  return check(cudaFreeAsync(memory, static_cast<cudaStream_t>(stream)), location, "cudaFreeAsync(%p, %p)", memory,
               stream);
}

inline Status trim(SourceLocation location) {
  cudaMemPool_t pool = nullptr;
  const Relaxed relaxed;
  Status status = own_pool(&pool, location);
  if (status == Status::ok) status = check(cudaDeviceSynchronize(), location, "cudaDeviceSynchronize");
  if (status != Status::ok || pool == nullptr) return status;
  return check(cudaMemPoolTrimTo(pool, 0), location, "cudaMemPoolTrimTo(%p, 0)", static_cast<void*>(pool));
}

inline Status event_create(Event* event, SourceLocation location) {
  cudaEvent_t made = nullptr;
  const Status status =
      check(cudaEventCreateWithFlags(&made, cudaEventDisableTiming), location, "cudaEventCreateWithFlags");
  *event = made;
  return status;
}

inline Status event_free(Event event, SourceLocation location) {
  return check(cudaEventDestroy(static_cast<cudaEvent_t>(event)), location, "cudaEventDestroy(%p)", event);
}

inline Status event_record(Event event, Stream stream, SourceLocation location) {
  return check(cudaEventRecord(static_cast<cudaEvent_t>(event), static_cast<cudaStream_t>(stream)), location,
               "cudaEventRecord(%p, %p)", event, stream);
}

inline Status event_wait(Stream stream, Event event, SourceLocation location) {
  return check(cudaStreamWaitEvent(static_cast<cudaStream_t>(stream), static_cast<cudaEvent_t>(event), 0), location,
               "cudaStreamWaitEvent(%p, %p)", stream, event);
}

inline Status event_query(Event event, bool* yes, SourceLocation location) {
  const Relaxed relaxed;
  const cudaError_t result = cudaEventQuery(static_cast<cudaEvent_t>(event));
  *yes = result == cudaSuccess;
  if (result != cudaErrorNotReady) return check(result, location, "cudaEventQuery(%p)", event);
  (void)cudaGetLastError();  // no failure, though the runtime keeps it as one
  return Status::ok;
}

inline Status capture_hold(Stream stream, void* object, void (*release)(void*), SourceLocation location) {
  cudaStreamCaptureStatus now = cudaStreamCaptureStatusNone;
  cudaGraph_t graph = nullptr;
  const cudaStream_t on = static_cast<cudaStream_t>(stream);
#if CUDART_VERSION >= 13000
  const cudaError_t asked = cudaStreamGetCaptureInfo(on, &now, nullptr, &graph);
#else
  const cudaError_t asked = cudaStreamGetCaptureInfo_v2(on, &now, nullptr, &graph);
#endif
  Status status = check(asked, location, "cudaStreamGetCaptureInfo(%p)", stream);
  if (status != Status::ok) return status;
  if (now != cudaStreamCaptureStatusActive)
    return fail(Status::device_error, "capture_hold at %s:%d: stream %p is not being captured into a graph",
                source_name(location.file), location.line, stream);
  cudaUserObject_t kept = nullptr;
  status = check(cudaUserObjectCreate(&kept, object, release, 1, cudaUserObjectNoDestructorSync), location,
                 "cudaUserObjectCreate(%p)", object);
  if (status != Status::ok) return status;
  // Without the graph's reference releasing ours would call `release`; the object stays the caller's, so ours stays.
  return check(cudaGraphRetainUserObject(graph, kept, 1, cudaGraphUserObjectMove), location,
               "cudaGraphRetainUserObject(%p)", object);
}

inline Status capture_begin(Stream* stream, SourceLocation location) {
  cudaStream_t on = nullptr;
  *stream = nullptr;
  Status status = check(cudaStreamCreateWithFlags(&on, cudaStreamNonBlocking), location, "cudaStreamCreateWithFlags");
  if (status != Status::ok) return status;
  status = check(cudaStreamBeginCapture(on, cudaStreamCaptureModeThreadLocal), location, "cudaStreamBeginCapture(%p)",
                 static_cast<void*>(on));
  if (status == Status::ok)
    *stream = on;
  else
    (void)cudaStreamDestroy(on);
  return status;
}

inline Status capture_end(Stream stream, Graph* graph, SourceLocation location) {
  const cudaStream_t on = static_cast<cudaStream_t>(stream);
  cudaGraph_t recorded = nullptr;
  cudaGraphExec_t made = nullptr;
  if (graph != nullptr) *graph = nullptr;
  const Relaxed relaxed;
  const cudaError_t ended = cudaStreamEndCapture(on, &recorded);
  Status status = graph == nullptr ? Status::ok : check(ended, location, "cudaStreamEndCapture(%p)", stream);
  if (ended != cudaSuccess) (void)cudaGetLastError();  // told, or expected of what is thrown away
  const Status destroyed = check(cudaStreamDestroy(on), location, "cudaStreamDestroy(%p)", stream);
  if (graph != nullptr && status == Status::ok) {
    status = check(cudaGraphInstantiate(&made, recorded, 0), location, "cudaGraphInstantiate(%p)",
                   static_cast<void*>(recorded));
    *graph = made;
  }
  if (recorded != nullptr) {
    const Status freed =
        check(cudaGraphDestroy(recorded), location, "cudaGraphDestroy(%p)", static_cast<void*>(recorded));
    if (status == Status::ok) status = freed;
  }
  return status != Status::ok ? status : destroyed;
}

inline Status graph_launch(Graph graph, Stream stream, SourceLocation location) {
  return check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), static_cast<cudaStream_t>(stream)), location,
               "cudaGraphLaunch(%p, %p)", graph, stream);
}

inline Status graph_free(Graph graph, SourceLocation location) {
  return check(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)), location, "cudaGraphExecDestroy(%p)", graph);
}

inline Status current_device(int32_t* device, SourceLocation location) {
  return check(cudaGetDevice(device), location, "cudaGetDevice");
}

inline Status device_of(const void* memory, int32_t* device, SourceLocation location) {
  *device = -1;
  cudaPointerAttributes attributes;
  const Status status =
      check(cudaPointerGetAttributes(&attributes, memory), location, "cudaPointerGetAttributes(%p)", memory);
  if (status != Status::ok) return status;
  if (attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged) *device = attributes.device;
  return Status::ok;
}

// The architectures of this build as nvcc lists them to host code: __CUDA_ARCH__ of each, least first.
constexpr int kArchitectures[] = {__CUDA_ARCH_LIST__};

inline Machine machine() {
  Machine m = {};
  m.runtime = CUDART_VERSION;
  m.visible = std::getenv("CUDA_VISIBLE_DEVICES");
  m.least_capability = kArchitectures[0] / 10;
  if (cudaDriverGetVersion(&m.driver) != cudaSuccess) m.driver = 0;
  int device = 0, major = 0, minor = 0;
  cudaDeviceProp properties;
  cudaError_t result = m.driver == 0 ? cudaErrorNoDevice : cudaGetDeviceCount(&m.devices);
  if (result == cudaSuccess) result = cudaGetDevice(&device);
  if (result == cudaSuccess) result = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (result == cudaSuccess) result = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  if (result == cudaSuccess) result = cudaGetDeviceProperties(&properties, device);
  if (result == cudaSuccess) std::snprintf(m.name, sizeof m.name, "%s", properties.name);
  m.capability = 10 * major + minor;
  if (result == cudaErrorNoDevice) m.devices = 0;
  if (result != cudaSuccess && result != cudaErrorNoDevice) m.failure = cudaGetErrorString(result);
  (void)cudaGetLastError();  // reported here, not by the next call
  return m;
}

inline Status device_limits(Limits* limits, SourceLocation location) {
  constexpr int kLongArgumentsSince = 12010, kOverlapsInGraphsSince = 12030;
  int device = 0, major = 0, multiprocessors = 0, shared = 0, driver = 0;
  const auto ask = [&](int* value, cudaDeviceAttr attribute) {
    return check(cudaDeviceGetAttribute(value, attribute, device), location, "cudaDeviceGetAttribute(%d, %d)",
                 static_cast<int>(attribute), device);
  };
  Status status = check(cudaGetDevice(&device), location, "cudaGetDevice");
  if (status == Status::ok) status = ask(&major, cudaDevAttrComputeCapabilityMajor);
  if (status == Status::ok) status = ask(&multiprocessors, cudaDevAttrMultiProcessorCount);
  if (status == Status::ok) status = ask(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin);
  if (status == Status::ok) status = check(cudaDriverGetVersion(&driver), location, "cudaDriverGetVersion");
  *limits = {major, multiprocessors, static_cast<size_t>(shared),
             driver >= kLongArgumentsSince ? kLongArgument : kArgument, major >= 9 && driver >= kOverlapsInGraphsSince};
  return status;
}

inline Status device_info(DeviceInfo* info, SourceLocation location) {
  *info = {};
  Status status = current_device(&info->index, location);
  if (status != Status::ok) return status;
  cudaDeviceProp properties;
  status =
      check(cudaGetDeviceProperties(&properties, info->index), location, "cudaGetDeviceProperties(%d)", info->index);
  if (status != Status::ok) return status;
  std::snprintf(info->name, sizeof info->name, "%s", properties.name);
  info->compute_major = properties.major;
  info->compute_minor = properties.minor;
  info->multiprocessors = properties.multiProcessorCount;
  info->memory = properties.totalGlobalMem;
  info->shared_per_block = properties.sharedMemPerBlockOptin;
  info->shared_per_multiprocessor = properties.sharedMemPerMultiprocessor;
  return Status::ok;
}

}  // namespace fusedrnn::cuda::hw
