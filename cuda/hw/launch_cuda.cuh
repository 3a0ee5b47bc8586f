// The hardware layer's launches for nvcc. The contract of each function is in device.cuh.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <cstdarg>
#include <cstdio>

namespace fusedrnn::cuda::hw {

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

}  // namespace fusedrnn::cuda::hw
