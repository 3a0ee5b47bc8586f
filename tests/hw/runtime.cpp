// A CUDA runtime without a GPU, whose calls fail when told to. Functions as the library has them, with C linkage.
#include <driver_types.h>

#include <cstdio>
#include <cstring>

const char* failing = "";  // the call that fails
int error = 0;             // with this
bool pinned = false;       // whether memory is the host's own, pinned
bool captured = false;     // whether streams are being captured
int device_index = 2;      // of the calling thread's device
int calls = 0;             // of what takes back what another call has made
int shared_asked = 0;      // bytes of shared memory that a kernel was last allowed

namespace {

cudaError_t result_of(const char* call) {
  return static_cast<cudaError_t>(std::strcmp(call, failing) == 0 ? error : 0);
}

// Are all blocks to run at the same time?
bool cooperative(const cudaLaunchConfig_t& config) {
  for (unsigned i = 0; i < config.numAttrs; ++i)
    if (config.attrs[i].id == cudaLaunchAttributeCooperative) return config.attrs[i].val.cooperative != 0;
  return false;
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
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute attribute, int value) {
  if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) shared_asked = value;
  return result_of("cudaFuncSetAttribute");
}
cudaError_t cudaLaunchKernelExC(const void* config, const void*, void**) {
  const bool together = cooperative(*static_cast<const cudaLaunchConfig_t*>(config));
  return result_of(together ? "cudaLaunchKernelExC, cooperative" : "cudaLaunchKernelExC");
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
           : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? 200000
                                                                  : 5;
  char call[40];
  std::snprintf(call, sizeof call, "cudaDeviceGetAttribute %d", static_cast<int>(attribute));
  return result_of(call);
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int, size_t) {
  *blocks = 3;
  return result_of("cudaOccupancyMaxActiveBlocksPerMultiprocessor");
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) { return cudaSuccess; }
cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps*) {
  *pool = reinterpret_cast<cudaMemPool_t>(0x2000);
  return result_of("cudaMemPoolCreate");
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) {
  return result_of("cudaMemPoolSetAttribute");
}
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
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return result_of("cudaEventRecord"); }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return result_of("cudaStreamWaitEvent"); }
cudaError_t cudaEventQuery(cudaEvent_t) { return result_of("cudaEventQuery"); }
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = captured ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return result_of("cudaStreamIsCapturing");
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
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = reinterpret_cast<cudaStream_t>(0x6000);
  return result_of("cudaStreamCreateWithFlags");
}
cudaError_t cudaStreamDestroy(cudaStream_t) {
  ++calls;
  return result_of("cudaStreamDestroy");
}
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) { return result_of("cudaStreamBeginCapture"); }
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  const cudaError_t result = result_of("cudaStreamEndCapture");
  *graph = result == cudaSuccess ? reinterpret_cast<cudaGraph_t>(0x4000) : nullptr;
  return result;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t, unsigned long long) {
  const cudaError_t result = result_of("cudaGraphInstantiate");
  *made = result == cudaSuccess ? reinterpret_cast<cudaGraphExec_t>(0x7000) : nullptr;
  return result;
}
cudaError_t cudaGraphDestroy(cudaGraph_t) {
  ++calls;
  return result_of("cudaGraphDestroy");
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t) { return result_of("cudaGraphLaunch"); }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t) { return result_of("cudaGraphExecDestroy"); }

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
