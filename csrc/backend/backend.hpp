// What every backend provides: one plain C struct of function pointers.
//
// `scalar`, `avx2`, `avx512`, `amx` and `neon` fill it on the CPU (isa/kernels.cpp, compiled once per ISA); the CUDA
// plugin and its host emulator fill the same struct. Nothing here names Python, the STL or a device runtime, so the
// table crosses a dlopen boundary. Rules that hold for every entry:
//
//   * status codes, never exceptions; `status_text` describes the last failure of the calling thread ("no failure"
//     before the first);
//   * all pointers inside argument structs are memory of the backend (on a CPU: any host memory), but for arrays of the
//     structs of this file (LayerWeights, LayerGrads, Segment), which the host reads. Scalar results (loss, norm) are
//     written to backend memory as well;
//   * sizes and strides count elements, not bytes; indices are 64-bit; matrices are row-major with unit last stride;
//   * arguments are already checked (csrc/bindings); a backend checks only what depends on itself;
//   * `stream` says where to run: a CUDA stream, or on a CPU the `Team` of threads lent to this call;
//   * "adds into" outputs are read and written, all other outputs are written without being read.
//
// Letters: T time steps, B batch, I input size, H hidden size, P units of h, L layers, D directions, G gates of the
// cell.
#pragma once

#include "backend/async.hpp"
#include "backend/dense.hpp"
#include "backend/losses.hpp"
#include "backend/optim.hpp"
#include "backend/sequence.hpp"
#include "backend/types.hpp"

namespace fusedrnn {

constexpr uint32_t kBackendAbi = 15;

// Kinds of memory, in DLPack's numbers. The emulator's is that of an extension: host pages, not to be taken for
// ordinary host memory.
constexpr int32_t kHostMemory = 1;
constexpr int32_t kCudaMemory = 2;
constexpr int32_t kEmulatorMemory = 12;

struct Backend {
  uint32_t abi;   // kBackendAbi
  uint32_t size;  // sizeof(Backend)
  const char* name;
  const char* (*status_text)();
  Status (*describe)(char* text, size_t bytes);  // the hardware in a few words

  Status (*alloc)(size_t bytes, void** memory);  // 64-byte aligned, not initialised
  void (*free)(void* memory);
  // Either side may be host memory; the host side may be used again on return, and holds the bytes then.
  Status (*copy)(void* to, const void* from, size_t bytes, Stream);
  Status (*fill)(void* to, int value, size_t bytes, Stream);
  Status (*synchronize)(Stream);  // until all work of the stream is done, and reports what went wrong in it
  int32_t memory;                 // one of those
  int32_t (*device)();            // where alloc allocates: 0, 1, ...
  Status (*device_of)(const void* memory, int32_t* device);  // whose memory it is; -1 where no device of this backend's

  const SequenceOps* sequence;
  const DenseOps* dense;
  const LossOps* losses;
  const OptimOps* optim;
  const AsyncOps* async;  // nullptr on a CPU, whose calls return when their work is done
};

// What a plugin library exports as `fusedrnn_plugin`, with C linkage: its table, or nullptr and a sentence that says
// why it cannot run here. `abi` is the caller's kBackendAbi.
using PluginEntry = const Backend* (*)(uint32_t abi, char* why, size_t why_bytes);

}  // namespace fusedrnn
