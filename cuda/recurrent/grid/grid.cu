// The plan `grid`: where things lie in a block's shared memory and in a group's part of global memory, and which
// groups a stack gets.
#include "recurrent/grid/grid.hpp"

#include "recurrent/chunk/chunk.hpp"
#include "recurrent/plan_table.hpp"
#include "recurrent/sequence.hpp"

namespace fusedrnn::cuda {
namespace {

// Is the plan one for these sizes?
bool possible(const SequenceDesc& desc, Element e) {
  return e != Element::f64 && desc.B > 0 && desc.B <= kMostRows && desc.H <= kMostHidden;
}

GridShape shape_for(const SequenceDesc& desc, Element e, bool backward, bool many) {
  return grid_shape(e, desc.H, grid_rows(e, many), unit_shape(traits(desc.cell), backward));
}

// Clocks of a step, roughly, as data sheets have it: products, R and the state on their way through shared memory, the
// state on its way from L2, the cell, and what it takes until others have heard of it.
int64_t clocks_of_step(Element e, const GridShape& shape) {
  const int64_t products =
      int64_t{kClusterWarps} * shape.job_depth * shape.tiles * (shape.rows / 8) * clocks_of_fragment(e);
  const int64_t resident = (shape.bytes - shape.r_at) / 128, state = shape.state_bytes / 24;
  return 1800 + products + resident + state + shape.units * shape.rows * shape.gates / 2;
}

}  // namespace

GridShape grid_shape(Element e, int64_t H, int32_t rows, const UnitShape& unit) {
  const FragmentShape fragment = grid_fragment(e);
  const int64_t bytes_of_fragment = fragment.depth * rows * bytes_of(e), slot = kGridSlotBytes / bytes_of_fragment;
  GridShape s{};
  s.rows = rows;
  s.units = fragment.rows;
  s.blocks = static_cast<int32_t>(quotient_up(H, s.units));
  s.gates = s.tiles = unit.gates;
  s.handed = unit.handed;
  s.depth = static_cast<int32_t>(quotient_up(int64_t{s.blocks} * s.handed * s.units, fragment.depth));
  s.job_depth = static_cast<int32_t>(quotient_up(s.depth, kClusterWarps));
  s.splits = static_cast<int32_t>(quotient_up(s.depth, s.job_depth));
  s.jobs = s.tiles * s.splits;
  const int32_t most_held = grid_held(e, s.tiles);
  s.held = s.job_depth < most_held ? s.job_depth : most_held;
  s.state_bytes = s.depth * bytes_of_fragment;
  s.flag_bytes = round_up(s.blocks * static_cast<int64_t>(sizeof(uint32_t)), 128);
  s.group_bytes = round_up(s.flag_bytes + 2 * s.state_bytes, 128);

  const int64_t slots = quotient_up(s.job_depth, slot);
  const int64_t ring = (slots < grid_slots(e) ? slots : grid_slots(e)) * kGridSlotBytes;
  const int64_t sums = round_up(s.tiles * fragment.rows * (rows + 1) * 4, 16);
  SharedLayout places(0);
  places.take_items(s, unit.inputs);
  s.sums_pitch = static_cast<int32_t>((ring < sums ? sums : ring) / 4);
  s.sums_at = places.take(s.splits * int64_t{s.sums_pitch} * 4);
  s.r_at = places.take(int64_t{kClusterWarps} * (s.job_depth - s.held) * s.tiles * kFragmentBytes);
  s.bytes = places.end();
  return s;
}

GridSteps grid_of(CellKind cell) {
  switch (cell) {
#define FUSEDRNN_CASE(kind, Type) \
  case CellKind::kind:            \
    return kind##_grid();
    FUSEDRNN_CUDA_CELLS(FUSEDRNN_CASE)
#undef FUSEDRNN_CASE
#define FUSEDRNN_CASE(kind, Type) \
  case CellKind::kind:            \
    break;
    FUSEDRNN_HOST_CELLS(FUSEDRNN_CASE)
#undef FUSEDRNN_CASE
  }
  return {};  // of another cell: element_of refuses it before
}

Status plan_grid(const SequenceDesc& desc, Element e, const hw::Limits& limits, GridPlan* plan) {
  *plan = GridPlan{};
  if (!possible(desc, e)) return Status::ok;
  const GridSteps steps = grid_of(desc.cell);

  // Of what fits, the shape of the fewest clocks for all rows.
  const auto choose = [&](bool backward, bool* used, GridShape* shape) {
    int64_t least = INT64_MAX;
    for (const bool many : {false, true}) {
      GridShape tried = shape_for(desc, e, backward, many);
      if (desc.row_groups != 0 && tried.rows != desc.row_groups) continue;
      if (tried.bytes > static_cast<int64_t>(limits.shared_per_block)) continue;
      int32_t blocks = 0;
      FR_TRY(steps.room(e, backward, tried, &blocks));
      if (desc.unit_groups != 0 && desc.unit_groups < blocks) blocks = desc.unit_groups;
      tried.groups = blocks / tried.blocks;
      if (tried.groups == 0) continue;
      const int64_t launches = quotient_up(grid_groups(tried, desc.B, desc.directions), tried.groups);
      const int64_t clocks = launches * clocks_of_step(e, tried);
      if (clocks >= least) continue;
      least = clocks;
      *used = true;
      *shape = tried;
    }
    return Status::ok;
  };
  FR_TRY(choose(false, &plan->forward_used, &plan->forward));
  return choose(true, &plan->backward_used, &plan->backward);
}

int64_t grid_exchange_bytes(const SequenceDesc& desc, Element e, bool backward) {
  bool wanted = desc.plan == PlanKind::grid;
  for (const PlanRow& row : kPlanTable) wanted |= desc.plan == PlanKind::automatic && row.plan == PlanKind::grid;
  if (!wanted || !possible(desc, e)) return 0;
  int64_t most = 0;
  for (const bool many : {false, true}) {
    const GridShape shape = shape_for(desc, e, backward, many);
    const int64_t bytes = grid_groups(shape, desc.B, desc.directions) * shape.group_bytes;
    if (bytes > most) most = bytes;
  }
  return most;
}

}  // namespace fusedrnn::cuda
