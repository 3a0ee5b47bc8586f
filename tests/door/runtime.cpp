// A CUDA runtime without a GPU, whose calls fail when told to. Functions as the library has them, with C linkage.
#include <driver_types.h>

#include <cstdio>
#include <cstring>

const char* failing = "";  // the call that fails
int error = 0;             // with this
bool pinned = false;       // whether memory is the host's own, pinned

namespace {

cudaError_t result_of(const char* call) {
  return static_cast<cudaError_t>(std::strcmp(call, failing) == 0 ? error : 0);
}

}  // namespace

extern "C" {
cudaError_t cudaMalloc(void** memory, size_t) {
  *memory = nullptr;
  return result_of("cudaMalloc");
}
cudaError_t cudaFree(void*) { return result_of("cudaFree"); }
cudaError_t cudaMemcpyAsync(void*, const void*, size_t, cudaMemcpyKind, cudaStream_t) {
  return result_of("cudaMemcpyAsync");
}
cudaError_t cudaMemsetAsync(void*, int, size_t, cudaStream_t) { return result_of("cudaMemsetAsync"); }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return result_of("cudaStreamSynchronize"); }
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory) {
  *attributes = {};
  attributes->type = pinned              ? cudaMemoryTypeHost
                     : memory == nullptr ? cudaMemoryTypeUnregistered
                                         : cudaMemoryTypeDevice;
  attributes->device = 3;
  return result_of("cudaPointerGetAttributes");
}
cudaError_t cudaGetDevice(int* device) {
  *device = 2;
  return result_of("cudaGetDevice");
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::strcpy(properties->name, "GPU");
  return result_of("cudaGetDeviceProperties");
}
// As CUDA 12 calls it.
cudaError_t cudaGetDeviceProperties_v2(cudaDeviceProp* properties, int device) {
  return cudaGetDeviceProperties(properties, device);
}
cudaError_t cudaFuncGetName(const char** name, const void*) {
  *name = "a_kernel";
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return result_of("cudaFuncSetAttribute"); }
cudaError_t cudaLaunchKernelExC(const void*, const void*, void**) { return result_of("cudaLaunchKernelExC"); }
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t e) {
  static char text[32];
  std::snprintf(text, sizeof text, e == cudaErrorMemoryAllocation ? "out of memory" : "error %d", static_cast<int>(e));
  return text;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 99000;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return result_of("cudaGetDeviceCount");
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrComputeCapabilityMajor ? 7 : 5;
  return cudaSuccess;
}

// What nvcc adds for kernels.
void** __cudaRegisterFatBinary() { return nullptr; }
void __cudaRegisterFatBinaryEnd() {}
void __cudaUnregisterFatBinary() {}
void __cudaRegisterFunction() {}
int __cudaPopCallConfiguration() { return 0; }
cudaError_t __cudaLaunchKernel() { return cudaSuccess; }
cudaError_t __cudaGetKernel() { return cudaSuccess; }
char __cudaInitModule() { return 0; }
}
