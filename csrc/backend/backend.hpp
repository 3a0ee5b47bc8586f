// What every backend provides: one plain C struct of function pointers.
//
// `scalar`, `avx2`, `avx512` and `neon` fill it on the CPU (dispatch/kernels.cpp, compiled once per ISA); the CUDA
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
// Letters: T time steps, B batch, I input size, H hidden size, L layers, D directions, G gates of the cell.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace fusedrnn {

constexpr uint32_t kBackendAbi = 5;

enum class Status : int32_t { ok = 0, invalid_argument, out_of_memory, unsupported, device_error };
enum class DType : int32_t { float32 = 0, float64, bfloat16, float16 };
enum class CellKind : int32_t { rnn_tanh = 0, rnn_relu, gru, lstm };
enum class Precision : int32_t { ieee = 0, tf32, tf32x3, bf16, fp16 };
enum class OptimizerKind : int32_t { sgd = 0, adagrad, rmsprop, adam, adamw };
enum class PlanKind : int32_t { automatic = 0, reference, step, cluster, grid };
enum class LossKind : int32_t { mse = 0, cross_entropy_classes, cross_entropy_probabilities, binary_cross_entropy };
enum class Reduction : int32_t { none = 0, mean, sum };

using Stream = void*;
using Mark = void*;   // a point in a stream's work, which other streams can wait for
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

// ------------------------------------------------------------------------------------------------------ sequences
// A 3-d array with unit last stride: element (i, j, k) at data[i * stride0 + j * stride1 + k]. x, y, dx, dy are indexed
// (t, b, feature) whatever the caller's batch_first says; states are (layer * D + direction, b, hidden).
// data == nullptr means "absent": zeros where it is read, not computed where it would be written.
struct Array3 {
  void* data;
  int64_t stride0, stride1;
};

// The whole stack in one descriptor, because layers and directions may run concurrently. Layer 0 reads I features, the
// others D * H. Dropout acts on the input of every layer but the first when `train` is set; element (t, b, k) of layer
// l's input is dropped as layers/philox.hpp says, with key `dropout_key` and stream l.
struct SequenceDesc {
  CellKind cell;
  DType dtype;
  Precision precision;
  int32_t layers, directions;
  int32_t threads;  // how many threads `stream` offers (CPU)
  // The grid of a plan somebody wants, 0 to leave it to the backend. One that needs more than `threads` is not used.
  int32_t direction_groups, row_groups, unit_groups;
  // Of a GPU: likewise. For `cluster`, row_groups may say how many rows a cluster takes, and unit_groups of how many
  // blocks it is at most; direction_groups = 1 keeps it from two layers at once. For `grid`, how many rows a group of
  // blocks takes, and how many blocks run at once at most. Where it does not fit, and is not `plan_required`, another
  // plan is taken.
  PlanKind plan;
  int32_t plan_required;
  int32_t has_bias;
  int32_t train;  // keep a tape
  int32_t has_lengths, has_resets;
  int64_t T, B, I, H;
  double dropout;
  uint64_t dropout_key;
  const uint64_t* dropout_key_at;  // or nullptr: backend memory that holds the key, read when kernels run
};

// The schedule as data, so that it can be queried and tested without running. CPU: a grid of `direction_groups` x
// `row_groups` x `unit_groups` threads over directions x batch rows x hidden units; a barrier per step only inside a
// row group. `chunk_steps` steps of X W are computed at once, and backward accumulates weight gradients once per
// `chunk_steps`; the latter fixes the order of sums and therefore depends on sizes only, never on threads or ISA. GPU:
// `name` is one of PlanKind, the groups are the blocks of a step's kernel; with `cluster` and `grid`, unit_groups
// blocks share R and take cluster_rows rows together, and each has shared_bytes of shared memory.
struct Plan {
  const char* name;
  int32_t direction_groups, row_groups, unit_groups;
  int64_t chunk_steps;
  int32_t cluster_rows = 0;  // 0 without clusters, as what follows
  int64_t shared_bytes = 0;
  int32_t layers_at_once = 0;  // of forward: how many layers run side by side, each a piece of the sequence behind
};

// Bytes a caller provides. Each block is 64-byte aligned; contents of tape and packed weights are opaque, and hold no
// addresses: a copy of the bytes is as good as they are.
struct SequenceSizes {
  size_t packed;    // weights in the backend's own layout, for forward and backward
  size_t tape;      // what forward keeps for backward; 0 unless desc.train
  size_t forward;   // scratch of forward
  size_t backward;  // scratch of backward
};

// Where the tape keeps what users may look at, of one layer * D + direction: element (t, b, block * H + unit). Steps
// past a row's length are not initialised. The blocks of a gate array are i f g o (LSTM), r z n q (GRU, q = R_n h +
// b_hn).
struct TapeView {
  Array3 cells, gates;  // absent where the cell has none
  int32_t gate_blocks;
};

// PyTorch's layout: weight_ih (G*H, in), weight_hh (G*H, H) with row strides, biases (G*H) or nullptr.
struct LayerWeights {
  const void* weight_ih;
  const void* weight_hh;
  const void* bias_ih;
  const void* bias_hh;
  int64_t ld_ih, ld_hh;
};

// Same shapes, contiguous; gradients are added into them; a nullptr is not computed.
struct LayerGrads {
  void* weight_ih;
  void* weight_hh;
  void* bias_ih;
  void* bias_hh;
};

struct ForwardArgs {
  Array3 x, h0, c0;
  const void* packed;
  const int64_t* lengths;  // (B,) or nullptr; 0 <= lengths[b] <= T
  const uint8_t* resets;   // element (t, b) at resets[t * resets_stride0 + b * resets_stride1], or nullptr
  int64_t resets_stride0, resets_stride1;
  Array3 y, hn, cn;
  void* tape;  // nullptr unless desc.train
};

struct BackwardArgs {
  Array3 x, h0, c0;  // as in forward
  const void* packed;
  const int64_t* lengths;
  const uint8_t* resets;
  int64_t resets_stride0, resets_stride1;
  const void* tape;
  Array3 dy, dhn, dcn;         // each may be absent
  Array3 dx, dh0, dc0;         // dx may be absent; dh0 and dc0 go together
  const LayerGrads* dweights;  // layers * directions of them
};

// --------------------------------------------------------------------------------------------------------- matrix
// C (M, N) = op(A) op(B) [+ bias] or, with `accumulate`, C += op(A) op(B). Sums over k run in chunks of 256, an ordered
// chain of fused multiply-adds inside a chunk, chunks added in order: bits depend on K alone.
enum class GemmKind : int32_t {
  nt = 0,  // A (M, K), B (N, K): y = x W^T
  nn,      // A (M, K), B (K, N): dx = dy W
  tn,      // A (K, M), B (K, N): dW = dy^T x
};

struct GemmArgs {
  GemmKind kind;
  DType dtype;
  int32_t accumulate;
  int64_t M, N, K;
  const void* a;
  const void* b;
  const void* bias;  // (N,) or nullptr
  void* c;
  int64_t lda, ldb, ldc;
};

// ------------------------------------------------------------------------------------------------- strided inputs
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
// chunks are added in order. Kernels do not allocate: whoever calls them provides a double per chunk (`partials`).
constexpr int64_t kReduceChunk = 4096;
constexpr int64_t kLossRows = 16;  // rows of a cross-entropy that make a chunk

// --------------------------------------------------------------------------------------------------------- checks
// The first value that a check on a device found wrong, in the device's memory; all zeros: none yet. What a kernel
// reads beyond its range is never an address: such an id's row, such a class's loss and gradient are NaN, such an id
// adds nothing to a gradient, and a length is taken for the nearest right one.
struct Fault {
  int64_t what;   // CheckArgs::what of the check that found it
  int64_t index;  // in C order
  int64_t value;
};

struct CheckArgs {
  int64_t what;  // not 0: the caller's name for what is looked at
  int64_t count;
  Strided values;  // int64, `count` elements: each is to be in [low, high]
  int64_t low, high;
  Strided mask;  // uint8, or absent: where it is 0, a value may be anything, as where it is ignore_index
  int32_t has_ignore_index;
  int64_t ignore_index;
  Fault* fault;  // written if it is all zeros
};

// --------------------------------------------------------------------------------------------------------- layers
struct EmbeddingArgs {
  DType dtype;
  int64_t count, rows, width;  // ids, rows of the table, width of a row
  Strided ids;                 // int64, `count` elements, each in [0, rows)
  const void* weight;          // (rows, width), forward
  void* y;                     // (count, width), forward
  Strided dy;                  // count rows of width, backward
  void* dweight;               // (rows, width), backward adds into, ids in order
};

// y = (x - mean) rstd weight + bias with mean and variance (biased) of each row, rstd = 1 / sqrt(variance + eps).
// Computed in float64 and rounded once.
struct LayerNormArgs {
  DType dtype;
  int64_t rows, width;
  double eps;
  Strided x;
  const void* weight;  // (width,) or nullptr
  const void* bias;    // (width,) or nullptr
  void* y;             // (rows, width), forward
  void* mean;          // (rows,) kept for backward, dtype of x
  void* rstd;          // (rows,)
  Strided dy;          // backward
  void* dx;            // (rows, width)
  void* dweight;       // adds into, or nullptr
  void* dbias;         // adds into, or nullptr
};

// y = keep(i) ? x / (1 - p) : 0, element i kept as layers/philox.hpp says. Its own backward. 0 <= p <= 1.
struct DropoutArgs {
  DType dtype;
  int64_t count;
  double p;
  uint64_t key;
  const uint64_t* key_at;  // or nullptr: as SequenceDesc's dropout_key_at
  uint32_t stream;
  Strided x;
  void* y;  // (count,); may be x where x is one row
};

// y[b] = x[lengths[b] - 1, b] (0 where lengths[b] == 0); lengths nullptr: x[T - 1, b]. Backward writes all of dx.
struct LastArgs {
  DType dtype;
  int64_t T, B, N;
  const int64_t* lengths;
  Array3 x;  // forward reads, backward writes (dx)
  void* y;   // (B, N): forward writes, backward reads (dy)
  int64_t y_stride;
};

// --------------------------------------------------------------------------------------------------------- losses
// An entry is an element (mse, binary_cross_entropy) or a row of classes (cross_entropy_*). pred has rows * classes
// elements, classes being the last axis; for mse and binary_cross_entropy, `classes` elements share one mask value
// (1 where mask has the shape of pred). An entry counts when its mask is not 0 and its target is not ignore_index
// (for cross_entropy_probabilities the mask alone). Entries that do not count are never read into a result, give
// gradient 0 and (Reduction::none) loss 0, whatever pred and target hold there.
//
//   mse                          (p - t)^2
//   cross_entropy_classes        log(sum_k exp(p_k)) - p_t, t in [0, classes) where the entry counts
//   cross_entropy_probabilities  sum_k t_k (log(sum_j exp(p_j)) - p_k)
//   binary_cross_entropy         log(1 + exp(p)) - t p
//
// sum, or mean: sum / number of entries that count (0 where there are none), go to one float64 `loss`; none writes the
// entries' losses in dtype. dpred is the gradient of that number (none: of the sum), contiguous in the shape of pred.
struct LossArgs {
  LossKind kind;
  Reduction reduction;
  DType dtype;
  int64_t rows, classes;
  Strided pred;    // as one row where elementwise and without gaps
  Strided target;  // dtype, as pred; cross_entropy_classes: int64, `rows` elements
  Strided mask;    // uint8, `rows` elements, or absent
  int32_t has_ignore_index;
  int64_t ignore_index;
  void* loss;
  void* dpred;
  double* partials;              // one per kReduceChunk elements, or per row of a cross-entropy
  const Fault* fault = nullptr;  // of a device only: where it tells of one, a sum or mean is NaN
};

// ----------------------------------------------------------------------------------------------------- optimizers
// A contiguous piece of parameters with its gradient and state, all of one dtype. State, in torch's names:
// sgd: momentum_buffer; adagrad: sum; rmsprop: square_avg, momentum_buffer, grad_avg; adam(w): exp_avg, exp_avg_sq.
struct Segment {
  void* param;
  void* grad;
  void* state[3];  // nullptr where the rule keeps none
  int64_t count;
};

struct OptimizerArgs {
  OptimizerKind kind;
  DType dtype;
  int64_t segments;
  const Segment* segment;
  double lr, weight_decay, eps;
  double beta1, beta2;  // adam; rmsprop: beta2 = alpha
  double momentum, lr_decay;
  int32_t nesterov, centered, bias_correction;
  int64_t step;               // of this update, from 1
  const double* clip_factor;  // one float64 in backend memory that scales every gradient, or nullptr
};

struct NormArgs {
  DType dtype;
  int64_t segments;
  const Segment* segment;  // grad and count are read
  double max_norm;         // factor = min(1, max_norm / (norm + 1e-6)); NaN norm gives NaN
  double* norm;            // backend memory
  double* clip_factor;     // backend memory, or nullptr
  double* partials;        // one per kReduceChunk elements of each segment, at least one
};

// An optimizer's whole step: the norm of the gradients of all groups, and their updates with gradients scaled as
// NormArgs says. What is decided is decided where the gradients are: nobody waits, nothing comes back.
struct UpdateGroup {
  OptimizerArgs update;  // its clip_factor is not read
  // Both or neither may be nullptr. In backend memory, so that steps can be repeated without anew telling what changes
  // from one to the next: the learning rate, instead of update.lr; and, instead of update.step, a pair of numbers, of
  // which the second is how many updates there have been. A skipped one does not count. (Two, because on a GPU some
  // blocks begin when others have ended: the first is the one they read.)
  const double* lr;
  int64_t* steps;
};

struct ClippedUpdateArgs {
  int64_t groups;  // at least one
  const UpdateGroup* group;
  double max_norm;         // infinity scales nothing
  int32_t skip_nonfinite;  // where the norm is infinite or NaN, leave all parameters and states as they are
  double* norm;            // backend memory; nullptr: gradients are not measured, and neither scaled nor looked at
  double* partials;        // one per kReduceChunk elements of each segment, at least one for each group
  const Fault* fault = nullptr;  // of a device only: where it tells of one, nothing is updated and the norm is NaN
};

// --------------------------------------------------------------------------- around a step of training on a device
// A step's arguments are gathered into memory of its own, so that it can be a graph that is replayed with others.

// `to`, contiguous, becomes the elements of `from`, of 1, 4 or 8 bytes each.
struct Gather {
  Strided from;
  void* to;
  int64_t bytes;
};

// ---------------------------------------------------------------------------------------------------------- table
// Kinds of memory, in DLPack's numbers. The emulator's is that of an extension: host pages, which nobody shall take for
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

  // For calls that return before their work is done. cuda/device.cuh says what each does; nullptr on a CPU, whose calls
  // do not.
  Status (*alloc_on)(size_t bytes, void** memory, Stream);
  Status (*free_on)(void* memory, Stream);
  Status (*mark_create)(Mark*);
  void (*mark_free)(Mark);
  Status (*mark)(Mark, Stream);
  Status (*wait_mark)(Stream, Mark);
  Status (*reached)(Mark, int32_t* yes);
  Status (*capturing)(Stream, int32_t* yes);
  Status (*capture_hold)(Stream, void* object, void (*release)(void* object));
  Status (*capture_begin)(Stream*);
  Status (*capture_end)(Stream, Graph*);
  Status (*graph_launch)(Graph, Stream);
  void (*graph_free)(Graph);

  Status (*plan)(const SequenceDesc*, Plan*);
  Status (*sizes)(const SequenceDesc*, SequenceSizes*);
  Status (*pack)(const SequenceDesc*, const LayerWeights*, void* packed, Stream);
  Status (*forward)(const SequenceDesc*, const ForwardArgs*, void* workspace, Stream);
  Status (*backward)(const SequenceDesc*, const BackwardArgs*, void* workspace, Stream);
  Status (*tape_view)(const SequenceDesc*, const void* tape, int32_t index, TapeView*);

  size_t (*gemm_workspace)(const GemmArgs*, int32_t threads);
  Status (*gemm)(const GemmArgs*, void* workspace, Stream);
  Status (*column_sum)(DType, int64_t rows, int64_t columns, const void* a, int64_t lda, void* sum,
                       Stream);  // adds into

  Status (*check_values)(const CheckArgs*, Stream);  // nullptr on a CPU, where nobody has to wait to look

  Status (*embedding_forward)(const EmbeddingArgs*, Stream);
  Status (*embedding_backward)(const EmbeddingArgs*, Stream);
  Status (*layer_norm_forward)(const LayerNormArgs*, Stream);
  Status (*layer_norm_backward)(const LayerNormArgs*, Stream);
  Status (*dropout)(const DropoutArgs*, Stream);
  Status (*last_forward)(const LastArgs*, Stream);
  Status (*last_backward)(const LastArgs*, Stream);

  Status (*loss)(const LossArgs*, Stream);
  Status (*optimizer)(const OptimizerArgs*, Stream);
  Status (*norm)(const NormArgs*, Stream);
  Status (*clipped_update)(const ClippedUpdateArgs*, Stream);
  Status (*scale)(DType, int64_t segments, const Segment*, const double* factor, Stream);  // grad *= factor
  Status (*clip_value)(DType, int64_t segments, const Segment*, double limit,
                       Stream);  // grad clamped to [-limit, limit]

  // Of devices alone: nullptr on a CPU. Nobody waits for any of them.
  Status (*gather)(const Gather*, int64_t count, Stream);
  // From host memory, which may be used again on return. It travels as kernels' arguments: for little.
  Status (*upload)(void* to, const void* from, size_t bytes, Stream);
  Status (*count_up)(uint64_t* numbers, int64_t count, Stream);  // each by one
};

// What a plugin library exports as `fusedrnn_plugin`, with C linkage: its table, or nullptr and a sentence that says
// why it cannot run here. `abi` is the caller's kBackendAbi.
using PluginEntry = const Backend* (*)(uint32_t abi, char* why, size_t why_bytes);

}  // namespace fusedrnn
