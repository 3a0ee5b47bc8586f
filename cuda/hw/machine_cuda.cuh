// The hardware layer's view of the machine for nvcc. The contract of each function is in device.cuh.
#pragma once

#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>

#include "hw/launch_cuda.cuh"

namespace fusedrnn::cuda::hw {

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
