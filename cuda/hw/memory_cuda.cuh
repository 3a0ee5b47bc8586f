// The hardware layer's memory for nvcc. The contract of each function is in device.cuh.
#pragma once

#include <cuda_runtime.h>

#include <mutex>

#include "hw/launch_cuda.cuh"

namespace fusedrnn::cuda::hw {

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

}  // namespace fusedrnn::cuda::hw
