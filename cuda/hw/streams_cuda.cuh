// The hardware layer's events, captures and graphs for nvcc. The contract of each function is in device.cuh.
#pragma once

#include <cuda_runtime.h>

#include "hw/memory_cuda.cuh"

namespace fusedrnn::cuda::hw {

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
  if (ended != cudaSuccess) (void)cudaGetLastError();  // reported above, or expected of what is thrown away
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

}  // namespace fusedrnn::cuda::hw
