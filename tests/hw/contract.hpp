// What CUDA's documentation asks of a caller before a call, for the runtime beside this file: what a launch may be, and
// what may not be done while a stream is being captured. Each function says what a call comes to that breaks it.
#pragma once

#include <driver_types.h>

#include <map>
#include <set>
#include <utility>

class Contract {
 public:
  static constexpr int kMostShared = 200000, kWithoutAsking = 48 * 1024, kPortableCluster = 8, kMostThreads = 1024;
  static constexpr unsigned kMostX = 2147483647, kMostYZ = 65535;

  // ---- launches
  static const cudaLaunchAttributeValue* attribute(const cudaLaunchConfig_t& config, cudaLaunchAttributeID id) {
    for (unsigned i = 0; i < config.numAttrs; ++i)
      if (config.attrs[i].id == id) return &config.attrs[i].val;
    return nullptr;
  }

  // Are all blocks to run at the same time?
  static bool cooperative(const cudaLaunchConfig_t& config) {
    const cudaLaunchAttributeValue* value = attribute(config, cudaLaunchAttributeCooperative);
    return value != nullptr && value->cooperative != 0;
  }

  // Blocks of a cluster, 0 where the launch does not say.
  static unsigned cluster(const cudaLaunchConfig_t& config) {
    const cudaLaunchAttributeValue* value = attribute(config, cudaLaunchAttributeClusterDimension);
    return value == nullptr ? 0 : value->clusterDim.x * value->clusterDim.y * value->clusterDim.z;
  }

  cudaError_t allow(const void* kernel, int device, cudaFuncAttribute attribute, int value) {
    Allowed& allowed = allowed_[{kernel, device}];
    if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
      if (value < 0 || value > kMostShared) return cudaErrorInvalidValue;
      shared_asked = allowed.shared = value;
    } else if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) {
      if (value < cudaSharedmemCarveoutDefault || value > cudaSharedmemCarveoutMaxShared) return cudaErrorInvalidValue;
      carveout = value;
    } else if (attribute == cudaFuncAttributeNonPortableClusterSizeAllowed) {
      allowed.beyond_portable = value != 0;
    } else {
      return cudaErrorInvalidValue;
    }
    return cudaSuccess;
  }

  // More shared memory than every kernel may have is there for one that was allowed it, on that device.
  cudaError_t block(const void* kernel, int device, unsigned threads, size_t shared) {
    if (threads < 1 || threads > kMostThreads) return cudaErrorInvalidConfiguration;
    return shared <= static_cast<size_t>(allowed_[{kernel, device}].shared) ? cudaSuccess : cudaErrorInvalidValue;
  }

  cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, int device, int most_clustered) {
    const dim3 &grid = config.gridDim, &threads = config.blockDim;
    if (threads.y != 1 || threads.z != 1) return cudaErrorInvalidConfiguration;
    if (const cudaError_t no = block(kernel, device, threads.x, config.dynamicSmemBytes); no != cudaSuccess) return no;
    if (grid.x < 1 || grid.x > kMostX || grid.y < 1 || grid.y > kMostYZ || grid.z < 1 || grid.z > kMostYZ)
      return cudaErrorInvalidConfiguration;
    if (attribute(config, cudaLaunchAttributeClusterDimension) != nullptr) {
      // Their size is what the device and the kernel allow, divides the grid, and goes with no cooperative launch here.
      const unsigned size = cluster(config);
      const int most = allowed_[{kernel, device}].beyond_portable ? most_clustered : kPortableCluster;
      if (size < 1 || size > static_cast<unsigned>(most)) return cudaErrorInvalidClusterSize;
      if (grid.x % size != 0 || cooperative(config)) return cudaErrorInvalidConfiguration;
    }
    return enqueued(config.stream);
  }

  // ---- captures. Streams of others are known when they are captured.
  cudaError_t created(cudaStream_t stream, unsigned flags) {
    streams_[stream] = {false, (flags & cudaStreamNonBlocking) == 0};
    return flags <= cudaStreamNonBlocking ? cudaSuccess : cudaErrorInvalidValue;
  }
  cudaError_t destroyed(cudaStream_t stream) {
    return streams_.erase(stream) == 1 ? cudaSuccess : cudaErrorInvalidResourceHandle;
  }
  cudaError_t begun(cudaStream_t stream, cudaStreamCaptureMode mode) {
    if (is_legacy(stream)) return cudaErrorStreamCaptureUnsupported;
    if (captured(stream)) return cudaErrorIllegalState;
    streams_[stream].captured = true;
    own_mode_ = mode;
    return cudaSuccess;
  }
  cudaError_t ended(cudaStream_t stream) {
    if (!captured(stream)) return cudaErrorIllegalState;
    streams_[stream].captured = false;
    return cudaSuccess;
  }
  bool captured(cudaStream_t stream) const {
    const auto found = streams_.find(stream);
    return found != streams_.end() && found->second.captured;
  }
  // What others capture: a stream that the calls are given, or streams of another thread in the mode `global`.
  void capture(cudaStream_t stream, bool now) { streams_[stream].captured = now; }
  void others_capture(bool now) { others_capture_ = now; }

  void exchange(cudaStreamCaptureMode* mode) { std::swap(*mode, mode_); }

  // Calls that might put work into a stream, or wait, where it cannot be seen.
  cudaError_t unsafe() const {
    const bool own = own_mode_ != cudaStreamCaptureModeRelaxed && any([](const Stream& s) { return s.captured; });
    const bool no =
        (own && mode_ != cudaStreamCaptureModeRelaxed) || (others_capture_ && mode_ == cudaStreamCaptureModeGlobal);
    return no ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
  }
  // The legacy stream would wait for one that is being captured, if that does not say it need not.
  cudaError_t legacy(cudaStream_t stream) const {
    const bool waits = is_legacy(stream) && any([](const Stream& s) { return s.captured && s.blocking; });
    return waits ? cudaErrorStreamCaptureImplicit : cudaSuccess;
  }
  cudaError_t enqueued(cudaStream_t stream) const { return legacy(stream); }
  cudaError_t waited_for(cudaStream_t stream) const {
    return captured(stream) ? cudaErrorStreamCaptureUnsupported : legacy(stream);
  }
  cudaError_t recorded(cudaEvent_t event, cudaStream_t stream) {
    if (captured(stream))
      events_.insert(event);
    else
      events_.erase(event);
    return legacy(stream);
  }
  cudaError_t queried(cudaEvent_t event) const { return events_.count(event) != 0 ? cudaErrorCapturedEvent : unsafe(); }
  cudaError_t waits(cudaStream_t stream, cudaEvent_t event) const {
    return captured(stream) && events_.count(event) == 0 ? cudaErrorStreamCaptureIsolation : legacy(stream);
  }

  // ---- what tests ask
  void count() { ++counted; }
  int counted = 0;       // calls
  int shared_asked = 0;  // bytes of shared memory that a kernel was last allowed
  int carveout =
      cudaSharedmemCarveoutDefault;  // percent of a multiprocessor's memory that a kernel last asked for as shared

 private:
  struct Allowed {
    int shared = kWithoutAsking;
    bool beyond_portable = false;
  };
  struct Stream {
    bool captured = false, blocking = true;
  };

  static bool is_legacy(cudaStream_t stream) { return stream == nullptr || stream == cudaStreamLegacy; }
  template <class Is>
  bool any(Is is) const {
    for (const auto& [stream, state] : streams_)
      if (is(state)) return true;
    return false;
  }

  std::map<std::pair<const void*, int>, Allowed> allowed_;  // of a kernel on a device
  std::map<cudaStream_t, Stream> streams_;
  std::set<cudaEvent_t> events_;  // recorded in a captured stream
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeGlobal, own_mode_ = cudaStreamCaptureModeRelaxed;
  bool others_capture_ = false;
};

Contract& the_contract();
