// The plan `cluster`: where things lie in a block's shared memory, and which clusters a stack gets.
#include "recurrent/chunk/chunk.hpp"
#include "recurrent/sequence.hpp"

namespace fusedrnn::cuda {
namespace {

// Clocks of a step, roughly: what shared memory, tensor cores and FMA units take for the products, the cell, and what
// waits cost. It ranks shapes by what limits them, and knows nothing more of a GPU than its data sheet says.
int64_t clocks_of_step(Element e, const ClusterShape& shape) {
  const int64_t batch_tiles = shape.rows / 8, jobs = quotient_up(shape.jobs, kClusterWarps) * kClusterWarps;
  const int64_t products = jobs * shape.job_depth * batch_tiles * clocks_of_fragment(e);
  const int64_t resident = (shape.bytes - shape.r_at) / 128, cell = shape.units * shape.rows * shape.gates / 2;
  const int64_t sent = (shape.blocks - 1) * (shape.units * shape.rows * shape.handed * bytes_of(e)) / 10;
  return 300 + products + resident + cell + (shape.blocks > 1 ? 500 + sent : 0);
}

// Clocks of all steps of all clusters, at one block for a multiprocessor.
int64_t clocks_of(Element e, const ClusterShape& shape, int64_t B, int32_t directions, int32_t multiprocessors) {
  const int64_t clusters = quotient_up(B, shape.rows) * directions;
  // Clusters of more than half of what a group of multiprocessors has fit there once.
  const int64_t at_once = shape.blocks > 8 ? multiprocessors / 18 : multiprocessors / shape.blocks;
  return at_once == 0 ? INT64_MAX : quotient_up(clusters, at_once) * clocks_of_step(e, shape);
}

}  // namespace

ClusterShape cluster_shape(Element e, int64_t H, int32_t blocks, int32_t rows, const UnitShape& unit) {
  constexpr int32_t kTurn = 4;
  const FragmentShape fragment = fragment_shape(e);
  ClusterShape s{};
  s.rows = rows;
  s.units = static_cast<int32_t>(round_up(quotient_up(H, blocks), fragment.depth));
  s.blocks = static_cast<int32_t>(quotient_up(H, s.units));
  s.gates = unit.gates;
  s.handed = unit.handed;
  s.tiles = static_cast<int32_t>(quotient_up(s.gates * s.units, fragment.rows));
  const int64_t depth = static_cast<int64_t>(s.blocks) * s.handed * s.units / fragment.depth;
  const int64_t most_splits = s.tiles < kClusterWarps ? kClusterWarps / s.tiles : 1;
  const int64_t splits = most_splits < quotient_up(depth, kTurn) ? most_splits : quotient_up(depth, kTurn);
  s.splits = static_cast<int32_t>(splits);
  s.jobs = s.tiles * s.splits;
  s.job_depth = static_cast<int32_t>(round_up(quotient_up(depth, splits), kTurn));
  s.state_bytes = splits * s.job_depth * rows * fragment.depth * bytes_of(e);

  const int64_t jobs = s.jobs;
  const int32_t most_held = held_fragments(e, rows);
  s.held = s.job_depth < most_held ? s.job_depth : most_held;
  const int64_t resident = jobs * s.job_depth - (jobs < kClusterWarps ? jobs : kClusterWarps) * s.held;
  SharedLayout places(2 * static_cast<int64_t>(sizeof(hw::Mbarrier)));
  places.take_items(s, unit.inputs);
  s.sums_pitch = s.tiles * fragment.rows * rows;
  s.sums_at = places.take(splits * s.sums_pitch * 4);
  s.state_at = places.take(2 * s.state_bytes);
  s.r_at = places.take(resident * kFragmentBytes);
  s.bytes = places.end();
  return s;
}

Status plan_clusters(const SequenceDesc& desc, Element e, const hw::Limits& limits, ClusterPlan* plan) {
  *plan = ClusterPlan{};
  if (e == Element::f64 || limits.compute_major < 9 || desc.B == 0) return Status::ok;
  if (desc.H > kMostHidden || desc.B > kMostRows) return Status::ok;
  const CellTraits& cell = traits(desc.cell);
  const CellSteps steps = steps_of(desc.cell);

  // Of what fits, the shape of the fewest clocks among clusters of at most so many blocks.
  const auto best = [&](bool backward, int32_t most, ClusterShape* shape) {
    int64_t least = INT64_MAX;
    for (const int32_t rows : {8, 16, 32}) {
      if (desc.row_groups != 0 && rows != desc.row_groups) continue;
      for (int32_t blocks = 1; blocks <= most; ++blocks) {
        if (desc.unit_groups != 0 && blocks != desc.unit_groups) continue;
        const ClusterShape tried = cluster_shape(e, desc.H, blocks, rows, unit_shape(cell, backward));
        if (tried.bytes > static_cast<int64_t>(limits.shared_per_block)) continue;
        const int64_t clocks = clocks_of(e, tried, desc.B, desc.directions, limits.multiprocessors);
        if (clocks >= least) continue;
        least = clocks;
        *shape = tried;
      }
    }
    return least < INT64_MAX;
  };
  const StackSize size(desc, e);
  const auto choose = [&](bool backward, bool* used, ClusterShape* shape, int32_t* layers) {
    int32_t most = kMostClusterBlocks;
    while (!*used && best(backward, most, shape)) {
      int32_t room = 0;
      FR_TRY(steps.cluster_room(e, backward, *shape, &room));
      *used = room > 0;
      most = shape->blocks - 1;
      const int64_t clusters = quotient_up(desc.B, shape->rows);
      *layers = desc.directions == 1 && size.lanes == 2 && room >= 2 * clusters && desc.direction_groups != 1 ? 2 : 1;
    }
    return Status::ok;
  };
  FR_TRY(choose(false, &plan->forward_used, &plan->forward, &plan->forward_layers));
  return choose(true, &plan->backward_used, &plan->backward, &plan->backward_layers);
}

}  // namespace fusedrnn::cuda
