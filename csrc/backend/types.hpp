// What all groups of a backend's entries share: status codes, types, threads, how arrays lie in memory.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace fusedrnn {

enum class Status : int32_t { ok = 0, invalid_argument, out_of_memory, unsupported, device_error };
enum class DType : int32_t { float32 = 0, float64, bfloat16, float16 };

// What operands of products are kept in: X(value, its name in Python, whether a CPU has it, whether CUDA has it).
#define FUSEDRNN_PRECISIONS(X)     \
  X(ieee, "ieee", true, true)      \
  X(tf32, "tf32", false, true)     \
  X(tf32x3, "tf32x3", false, true) \
  X(bf16, "bf16", true, true)      \
  X(bf16x3, "bf16x3", true, false) \
  X(bf16x6, "bf16x6", true, false) \
  X(fp16, "fp16", false, true)
#define FUSEDRNN_VALUE(value, name, cpu, cuda) value,
#define FUSEDRNN_FACTS(value, name, cpu, cuda) {name, cpu, cuda},
enum class Precision : int32_t { FUSEDRNN_PRECISIONS(FUSEDRNN_VALUE) };
struct PrecisionFacts {
  const char* name;
  bool cpu, cuda;
};
inline constexpr PrecisionFacts kPrecisions[] = {FUSEDRNN_PRECISIONS(FUSEDRNN_FACTS)};
#undef FUSEDRNN_VALUE
#undef FUSEDRNN_FACTS

using Stream = void*;
using Event = void*;  // a point in a stream's work, which other streams can wait for
using Graph = void*;  // work recorded from streams, to be run as a whole

// ---------------------------------------------------------------------------------------------- threads of a CPU
// Lent to a CPU backend as its stream. `parallel` runs body(context, i) for every i in [0, n), n <= size, each index on
// a thread of its own, all at once, and returns when all have ended. `wait` is a barrier among n of those threads; the
// Barrier starts zeroed and may be reused at once.
struct Barrier {
  alignas(64) uint32_t arrived;
  alignas(64) uint32_t phase;
};

struct Team {
  int32_t size;
  void (*parallel)(Team*, int32_t n, void (*body)(void* context, int32_t index), void* context);
  void (*wait)(Team*, Barrier*, int32_t n);
};

// --------------------------------------------------------------------------------------------------------- arrays
// A 3-d array with unit last stride: element (i, j, k) at data[i * stride0 + j * stride1 + k]. x, y, dx, dy are indexed
// (t, b, feature) whatever the caller's batch_first says; states are (layer * D + direction, b, hidden).
// data == nullptr means "absent": zeros where it is read, not computed where it would be written.
struct Array3 {
  void* data;
  int64_t stride0, stride1;
};

// An array with unit last stride and positive strides on any leading axes, as `rows` of `width` elements in C order.
// Leading axes of size 1 are dropped and neighbours merged where strides allow: an ordinary array has `axes` <= 1, and
// one that lies in memory without gaps, where only its elements matter, is a single row. data == nullptr: absent.
constexpr int32_t kMaxAxes = 8;

struct Strided {
  const void* data;
  int64_t rows, width;
  int32_t axes;
  int64_t size[kMaxAxes], stride[kMaxAxes];  // outermost first; rows = product of sizes
};

// ------------------------------------------------------------------------------------------------------ reductions
// Sums over elements (norm, losses, layer norm) run in chunks of kReduceChunk, counted from the start of each array:
// element i of a chunk goes to double accumulator i mod 16, the 16 are added as a binary tree (i and i + 8, 4, 2, 1),
// chunks are added in order. Kernels do not allocate: the caller provides a double per chunk (`partials`).
constexpr int64_t kReduceChunk = 4096;
constexpr int64_t kLossRows = 16;  // rows of a cross-entropy that make a chunk

}  // namespace fusedrnn
