// Recurrent stacks of any cell (cells/list.hpp), forward and back-propagation through time.
#pragma once

#include "backend/types.hpp"
#include "cells/list.hpp"

namespace fusedrnn {

// The kinds of a GPU's plans: X(value, its name in Python).
#define FUSEDRNN_PLANS(X) \
  X(automatic, "auto") X(reference, "reference") X(step, "step") X(cluster, "cluster") X(grid, "grid")

#define FUSEDRNN_VALUE(value, name) value,
#define FUSEDRNN_NAME(value, name) name,
enum class PlanKind : int32_t { FUSEDRNN_PLANS(FUSEDRNN_VALUE) };
inline constexpr const char* kPlanNames[] = {FUSEDRNN_PLANS(FUSEDRNN_NAME)};
#undef FUSEDRNN_VALUE
#undef FUSEDRNN_NAME

constexpr int32_t kMaxLayers = 1 << 16;
constexpr int64_t kRecomputeAuto = -1;  // as many steps as the root of T

// The whole stack in one descriptor, because layers and directions may run concurrently. Layer 0 reads I features, the
// others D * state_units(desc). Dropout acts on the input of every layer but the first when `train` is set; element (t,
// b, k) of layer l's input is dropped as layers/philox.hpp says, with key `dropout_key` and stream l.
//
// What else regularises draws its masks from the same key, and is a CPU's so far:
//   dropout_per_sequence   the elements of a row's input are the same at all its steps (Gal & Ghahramani 2016)
//   recurrent_dropout      on h before the product with R, one mask a row and layer and direction (the same)
//   zoneout_c, zoneout_h   with this probability a unit keeps its state for a step (Krueger et al. 2017); without
//                          `train`, or where `zoneout_mean`, every state is the expectation of that
//   weight_dropout         on R, when weights are packed and in their gradient (Merity et al. 2018), by `weight_key`
// Which elements of which stream they take, sequence/masks.hpp says.
struct SequenceDesc {
  CellKind cell;
  DType dtype;
  Precision precision;
  int32_t layers, directions;
  int32_t threads;       // how many threads `stream` offers (CPU)
  double barrier_flops;  // what one of them computes in the time that a barrier takes (CPU)
  // The grid of a plan the caller wants, 0 to leave it to the backend. One that needs more than `threads` is not used.
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
  int32_t is_packed;  // rows of each step lie one after another, without padding: `steps` of the arguments (CPU)
  int64_t T, B, I, H;
  int64_t P;     // units of h where the cell projects it, else 0 (CPU)
  int64_t rows;  // of all steps, where is_packed
  double dropout;
  uint64_t dropout_key;
  const uint64_t* dropout_key_at;  // or nullptr: backend memory that holds the key, read when kernels run
  int32_t dropout_per_sequence;
  int32_t zoneout_mean;  // zoneout is its expectation with a tape as well
  double recurrent_dropout, zoneout_c, zoneout_h, weight_dropout;
  uint64_t weight_key;
  int64_t first_row;   // what row 0 is in masks by row: a part of a batch has the masks that it has in the whole one
  int64_t first_step;  // likewise what step 0 is in masks by step
  int64_t flow;        // whether backward measures the gradients of states (CPU)
  // The tape keeps the states every so many steps, backward computes the others again, to the same bits: 0, or on a CPU
  // with one direction a number of steps, which is rounded up to the plan's chunks, or kRecomputeAuto.
  int64_t recompute;
};

// Units of the state h, which is what layers above and the caller read.
inline int64_t state_units(const SequenceDesc& desc) { return desc.P > 0 ? desc.P : desc.H; }

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
// b_hn). Not of a tape that keeps some states alone (`recompute`).
struct TapeView {
  Array3 cells, gates;  // absent where the cell has none
  int32_t gate_blocks;
};

// A weight in PyTorch's layout: a matrix with a row stride, or a vector, whose stride nothing reads; nullptr: absent.
struct WeightView {
  const void* data;
  int64_t row_stride;
};

// Of one layer and direction, in the order of the cell's `weights` (cells/cell.hpp).
struct LayerWeights {
  WeightView weight[kMaxWeights];
};

// Same shapes and order, contiguous; gradients are added into them; a nullptr is not computed.
struct LayerGrads {
  void* weight[kMaxWeights];
};

// `steps`, where is_packed: row b of step t of x, y and their gradients is row steps[t] + b, `stride1` apart; rows are
// in order of falling length, and lengths are given as well.
struct ForwardArgs {
  Array3 x, h0, c0;
  const void* packed;
  const int64_t* lengths;  // (B,) or nullptr; 0 <= lengths[b] <= T
  const int64_t* order;    // (B,) all rows by falling length, or nullptr: equal ones in the batch's order
  const int64_t* steps;    // (T,) or nullptr
  const uint8_t* resets;   // element (t, b) at resets[t * resets_stride0 + b * resets_stride1], or nullptr
  int64_t resets_stride0, resets_stride1;
  Array3 y, hn, cn;
  void* tape;  // nullptr unless desc.train
};

struct BackwardArgs {
  Array3 x, h0, c0;  // as in forward
  const void* packed;
  const int64_t* lengths;
  const int64_t* order;
  const int64_t* steps;
  const uint8_t* resets;
  int64_t resets_stride0, resets_stride1;
  const void* tape;
  Array3 dy, dhn, dcn;  // each may be absent
  // dx may be absent; dh0 and dc0 go together. In a piece of a sequence a cell without cell states that hands gradient
  // to h past its gates has dcn and dc0 for that part.
  Array3 dx, dh0, dc0;
  const LayerGrads* dweights;  // layers * directions of them
  // Of a piece of a sequence (sequence/recompute.hpp), else nullptr: sums that go on from piece to piece and that the
  // caller adds to gradients of biases, as it masks R's under weight dropout.
  void* sums;
  // (L * D, T), flow_stride apart, where desc.flow: the 2-norm, over rows and units, of the whole gradient of h, and of
  // c where the cell has one. What is added to c_t counts where o tanh(c) reads it and in the state behind the step.
  double *flow_h, *flow_c;
  int64_t flow_stride;
};

struct SequenceOps {
  Status (*plan)(const SequenceDesc*, Plan*);
  Status (*sizes)(const SequenceDesc*, SequenceSizes*);
  Status (*pack)(const SequenceDesc*, const LayerWeights*, void* packed, Stream);
  Status (*forward)(const SequenceDesc*, const ForwardArgs*, void* workspace, Stream);
  Status (*backward)(const SequenceDesc*, const BackwardArgs*, void* workspace, Stream);
  Status (*tape_view)(const SequenceDesc*, const void* tape, int32_t index, TapeView*);
};

}  // namespace fusedrnn
