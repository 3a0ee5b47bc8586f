// A CUDA runtime without a GPU, whose calls fail when told to, and where what the documentation asks of a caller is not
// kept (contract.hpp). Functions as the library has them, with C linkage.
#include <driver_types.h>

#include <cstdio>
#include <cstring>

#include "contract.hpp"

const char* failing = "";  // the call that fails
int error = 0;             // with this
bool pinned = false;       // whether memory is the host's own, pinned
int device_index = 2;      // of the calling thread's device
int calls = 0;             // of what takes back what another call has made
int most_clustered = 16;   // blocks of a cluster

namespace {

Contract contract;

cudaError_t result_of(const char* call) {
  contract.count();
  return static_cast<cudaError_t>(std::strcmp(call, failing) == 0 ? error : 0);
}

// What a call comes to that must not be made as it was.
cudaError_t result_of(const char* call, cudaError_t refused) {
  const cudaError_t result = result_of(call);
  return refused != cudaSuccess ? refused : result;
}

}  // namespace

Contract& the_contract() { return contract; }

extern "C" {
cudaError_t cudaMalloc(void** memory, size_t) {
  *memory = nullptr;
  return result_of("cudaMalloc", contract.unsafe());
}
cudaError_t cudaFree(void*) { return result_of("cudaFree", contract.unsafe()); }
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t, cudaMemcpyKind, cudaStream_t stream) {
  const bool there = to != nullptr && from != nullptr;
  return result_of("cudaMemcpyAsync", there ? contract.enqueued(stream) : cudaErrorInvalidValue);
}
cudaError_t cudaMemsetAsync(void* to, int, size_t, cudaStream_t stream) {
  return result_of("cudaMemsetAsync", to != nullptr ? contract.enqueued(stream) : cudaErrorInvalidValue);
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return result_of("cudaStreamSynchronize", contract.waited_for(stream));
}
cudaError_t cudaDeviceSynchronize() { return result_of("cudaDeviceSynchronize", contract.unsafe()); }
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory) {
  *attributes = {};
  attributes->type = pinned              ? cudaMemoryTypeHost
                     : memory == nullptr ? cudaMemoryTypeUnregistered
                                         : cudaMemoryTypeDevice;
  attributes->device = 3;
  return result_of("cudaPointerGetAttributes");
}
cudaError_t cudaGetDevice(int* device) {
  *device = device_index;
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
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  return result_of("cudaFuncSetAttribute", contract.allow(kernel, device_index, attribute, value));
}
cudaError_t cudaLaunchKernelExC(const void* config, const void* kernel, void** arguments) {
  const auto& launch = *static_cast<const cudaLaunchConfig_t*>(config);
  const bool together = Contract::cooperative(launch);
  const cudaError_t refused =
      arguments != nullptr ? contract.launch(launch, kernel, device_index, most_clustered) : cudaErrorInvalidValue;
  return result_of(together ? "cudaLaunchKernelExC, cooperative" : "cudaLaunchKernelExC", refused);
}
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
  *value = attribute == cudaDevAttrComputeCapabilityMajor         ? 7
           : attribute == cudaDevAttrMemoryPoolsSupported         ? 1
           : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? Contract::kMostShared
                                                                  : 5;
  char call[40];
  std::snprintf(call, sizeof call, "cudaDeviceGetAttribute %d", static_cast<int>(attribute));
  return result_of(call);
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* kernel, int threads, size_t shared) {
  *blocks = 3;
  return result_of("cudaOccupancyMaxActiveBlocksPerMultiprocessor",
                   contract.block(kernel, device_index, static_cast<unsigned>(threads), shared));
}
// "Without required sizes, the cluster size must be specified in config, else the function will return an error."
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void* kernel, const cudaLaunchConfig_t* config) {
  const unsigned size = Contract::cluster(*config);
  const cudaError_t refused =
      size != 0 ? contract.launch(*config, kernel, device_index, most_clustered) : cudaErrorInvalidValue;
  *clusters = refused == cudaSuccess ? 48 / static_cast<int>(size) : -1;
  return result_of("cudaOccupancyMaxActiveClusters", refused);
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  contract.exchange(mode);
  return cudaSuccess;
}
cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* properties) {
  *pool = reinterpret_cast<cudaMemPool_t>(0x2000);
  const bool ours = properties->location.type == cudaMemLocationTypeDevice && properties->location.id == device_index;
  return result_of("cudaMemPoolCreate", ours ? contract.unsafe() : cudaErrorInvalidValue);
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) {
  return result_of("cudaMemPoolSetAttribute");
}
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return result_of("cudaMemPoolTrimTo", contract.unsafe()); }
cudaError_t cudaMallocFromPoolAsync(void** memory, size_t, cudaMemPool_t, cudaStream_t) {
  *memory = nullptr;
  return result_of("cudaMallocFromPoolAsync");
}
cudaError_t cudaFreeAsync(void*, cudaStream_t) { return result_of("cudaFreeAsync"); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = reinterpret_cast<cudaEvent_t>(0x3000);
  return result_of("cudaEventCreateWithFlags");
}
cudaError_t cudaEventDestroy(cudaEvent_t) { return result_of("cudaEventDestroy"); }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return result_of("cudaEventRecord", contract.recorded(event, stream));
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  return result_of("cudaStreamWaitEvent", contract.waits(stream, event));
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return result_of("cudaEventQuery", contract.queried(event)); }
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = contract.captured(stream) ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return result_of("cudaStreamIsCapturing", contract.legacy(stream));
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status, unsigned long long*,
                                     cudaGraph_t* graph, const cudaGraphNode_t**, const cudaGraphEdgeData**, size_t*) {
  *graph = reinterpret_cast<cudaGraph_t>(0x4000);
  (void)cudaStreamIsCapturing(stream, status);
  return result_of("cudaStreamGetCaptureInfo");
}
// As CUDA 12 calls it.
cudaError_t cudaStreamGetCaptureInfo_v2(cudaStream_t stream, cudaStreamCaptureStatus* status, unsigned long long* id,
                                        cudaGraph_t* graph, const cudaGraphNode_t** nodes, size_t* count) {
  return cudaStreamGetCaptureInfo(stream, status, id, graph, nodes, nullptr, count);
}
cudaError_t cudaUserObjectCreate(cudaUserObject_t* object, void*, cudaHostFn_t, unsigned, unsigned) {
  *object = reinterpret_cast<cudaUserObject_t>(0x5000);
  return result_of("cudaUserObjectCreate");
}
cudaError_t cudaGraphRetainUserObject(cudaGraph_t, cudaUserObject_t, unsigned, unsigned) {
  return result_of("cudaGraphRetainUserObject");
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  *stream = reinterpret_cast<cudaStream_t>(0x6000);
  return result_of("cudaStreamCreateWithFlags", contract.created(*stream, flags));
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  ++calls;
  return result_of("cudaStreamDestroy", contract.destroyed(stream));
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  const cudaError_t result = result_of("cudaStreamBeginCapture");
  return result != cudaSuccess ? result : contract.begun(stream, mode);
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const cudaError_t result = result_of("cudaStreamEndCapture", contract.ended(stream));
  *graph = result == cudaSuccess ? reinterpret_cast<cudaGraph_t>(0x4000) : nullptr;
  return result;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long) {
  const cudaError_t result =
      result_of("cudaGraphInstantiate", graph != nullptr ? contract.unsafe() : cudaErrorInvalidValue);
  *made = result == cudaSuccess ? reinterpret_cast<cudaGraphExec_t>(0x7000) : nullptr;
  return result;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  ++calls;
  return result_of("cudaGraphDestroy", graph != nullptr ? cudaSuccess : cudaErrorInvalidValue);
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  return result_of("cudaGraphLaunch", graph != nullptr ? contract.enqueued(stream) : cudaErrorInvalidValue);
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  return result_of("cudaGraphExecDestroy", graph != nullptr ? cudaSuccess : cudaErrorInvalidValue);
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
