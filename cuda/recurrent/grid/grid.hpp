// The plan `grid`, for the host: how R is dealt out to all multiprocessors, and the arguments of its kernels.
//
// A tile of rows of one direction belongs to a group of blocks, as many as H takes at a fixed number of units a block:
// 16 on the tensor cores, 8 of ieee. Block q owns units [q U, (q + 1) U): it holds their part of R in registers and
// shared memory, computes all their gates, and hands on what they have made through global memory. Groups have nothing
// to do with each other; a launch has as many as fit the device at once, and what is left over comes after it.
#pragma once

#include "recurrent/cluster/cluster.hpp"

namespace fusedrnn::cuda {

// What one turn of a warp multiplies; its rows are the units of a block. One gate is a tile.
constexpr FragmentShape grid_fragment(Element e) {
  return e == Element::f32 ? FragmentShape{8, 16} : fragment_shape(e);
}

// Rows of the batch that a group may take.
constexpr int32_t grid_rows(Element e, bool many) { return !many ? 8 : e == Element::f32 ? 16 : 32; }

// What a warp reads of the state at a time, and how many of these are on their way or in use at most: tf32x3, which
// multiplies for longer, has fewer and so has room for an LSTM of H 1024.
constexpr int64_t kGridSlotBytes = 1024;
constexpr int32_t grid_slots(Element e) { return e == Element::tf32x3 ? 3 : 4; }

// How deep the part of R is that a warp keeps in registers, of each of its tiles: 32 fragments or fewer in all. Those
// of tf32x3 are split there, and take twice as many.
constexpr int32_t grid_held(Element e, int32_t tiles) {
  return (e == Element::tf32x3 ? 16 : 32) / (tiles == 3 ? 4 : tiles);
}

// A block of a group of `blocks`. Of the fields before, `splits` are the warps that have a run of k, `job_depth` its
// fragments, and `sums` lie where a warp has read the state before.
struct GridShape : ClusterShape {
  int32_t depth;       // fragments of the state
  int32_t groups;      // in one launch
  int64_t flag_bytes;  // of a group in global memory: a flag for each block, then two states
  int64_t group_bytes;
};

// The shape of groups of `rows` rows; the rest is as with cluster_shape.
GridShape grid_shape(Element e, int64_t H, int32_t rows, const UnitShape& unit);

// Groups of all rows and directions.
inline int64_t grid_groups(const GridShape& shape, int64_t B, int32_t directions) {
  return (B + shape.rows - 1) / shape.rows * directions;
}

// Where a pass keeps flags and states, groups one behind the other, and what its flags say of turn 0 of a launch.
// Flags start at 0, and epochs only grow from launch to launch.
struct GridExchange {
  void* memory;
  int64_t first_group;
  uint32_t epoch;
};

// Both directions of a layer as lanes, as ClusterForward and ClusterBackward have them.
struct GridForward {
  ForwardStep step;
  ClusterLane lane[2];
  int64_t before_time;
  GridShape shape;
  GridExchange exchange;
};
struct GridBackward {
  BackwardStep step;
  ClusterLane lane[2];
  GridShape shape;
  GridExchange exchange;
};

// The kernels of one cell. `blocks`: how many of that shape the device runs at once.
struct GridSteps {
  Status (*room)(Element e, bool backward, const GridShape& shape, int32_t* blocks);
  Status (*forward)(Element e, const GridForward& steps, Stream stream);
  Status (*backward)(Element e, const GridBackward& steps, Stream stream);
};
#define FUSEDRNN_DECLARE(kind, Type) GridSteps kind##_grid();
FUSEDRNN_CUDA_CELLS(FUSEDRNN_DECLARE)
#undef FUSEDRNN_DECLARE
GridSteps grid_of(CellKind cell);

// What a stack gets of the plan.
struct GridPlan {
  bool forward_used, backward_used;
  GridShape forward, backward;
};

// Bytes that a pass needs for flags and states, whichever shape is chosen; 0 where the plan cannot be.
int64_t grid_exchange_bytes(const SequenceDesc& desc, Element e, bool backward);

// The epoch of a launch behind so many steps of its pass: a launch posts one for each of its steps.
inline uint32_t grid_epoch(int64_t steps) { return static_cast<uint32_t>(steps + 1); }

}  // namespace fusedrnn::cuda
