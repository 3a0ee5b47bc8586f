// The plan `cluster`, for the host: how a cluster of blocks is laid out, and the arguments of its kernels.
//
// A cluster of up to 16 blocks takes a tile of rows of one direction through a whole piece of the sequence. Block q
// owns units [q U, (q + 1) U): it holds their part of R in registers and shared memory, computes all their gates, and
// sends what they hand on to the others through shared memory. Clusters have nothing to do with each other.
#pragma once

#include "recurrent/step.hpp"

namespace fusedrnn::cuda {

constexpr int kClusterWarps = 8, kClusterThreads = kClusterWarps * hw::kWarp;
constexpr int kMostClusterBlocks = 16;
constexpr int kBackwardInputs = 3;  // of a unit and row of backward, beside what the tape has: two carries and dy

// What one instruction, or one turn of a warp, multiplies: `rows` of R by `depth` values of k.
struct FragmentShape {
  int32_t rows, depth;
};
constexpr FragmentShape fragment_shape(Element e) {
  return e == Element::f32 ? FragmentShape{32, 4} : FragmentShape{16, static_cast<int32_t>(32 / bytes_of(e))};
}
constexpr int64_t kFragmentBytes = 16 * hw::kWarp;  // of R

// Fragments of R that a warp keeps in registers: what sums and the rest leave of 255. Those of tf32x3 are split there,
// and take twice as many.
constexpr int held_fragments(Element e, int32_t rows) {
  if (e == Element::tf32x3) return rows > 16 ? 12 : 16;
  return e == Element::f32 && rows > 8 ? 24 : 32;
}

// A block's product of its part of R, `gates` * units rows, by a state of `handed` * units values of every block; and
// where its arrays lie in shared memory. A job is a tile of rows of R over `job_depth` fragments of k; warps take jobs
// in turn.
struct ClusterShape {
  int32_t blocks, rows, units;  // of a cluster; of a block
  int32_t gates, handed;
  int32_t tiles, splits, jobs, job_depth;  // tiles of rows, jobs along k, both together; fragments of a job
  int32_t held;                            // fragments of a warp's first job that it keeps in registers
  int64_t lengths_at, bias_at, carry_at, input_at, sums_at, state_at, r_at, bytes;
  int64_t state_bytes;  // of one of the two states
  int32_t sums_pitch;   // from the sums of one run of k to those of the next, in floats
};

// Of a unit in a pass: rows of R, values it hands on, and values it takes from global memory in a step.
struct UnitShape {
  int32_t gates, handed, inputs;
};

// Clusters of at most `blocks` blocks and `rows` rows, 8, 16 or 32.
ClusterShape cluster_shape(Element e, int64_t H, int32_t blocks, int32_t rows, const UnitShape& unit);

// What a stack gets of the plan. Two layers run at once where there are clusters enough for both.
struct ClusterPlan {
  bool forward_used, backward_used;
  ClusterShape forward, backward;
  int32_t forward_layers, backward_layers;  // at once
};

// Steps [first, end) of a direction.
struct ClusterLane {
  int64_t first, end;
  int32_t reverse;
};

// Both directions of a layer, or two layers of one direction, as lanes that have nothing to do with each other: lane i
// is step.direction[i]. What `step` says of one step is here of step `first`.
struct ClusterForward {
  ForwardStep step;
  ClusterLane lane[2];
  int64_t before_time;  // from the state that one step starts from to that of the next; 0: only the last is written
  ClusterShape shape;
};

// The same of backward. `next` of step end - 1 is read unless that is the last of all; `dgates` are those of step
// `first`, the others behind them.
struct ClusterBackward {
  BackwardStep step;
  ClusterLane lane[2];
  ClusterShape shape;
};

}  // namespace fusedrnn::cuda
