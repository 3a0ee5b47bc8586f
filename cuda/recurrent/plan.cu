// The choice of a plan, and the plan as data.
#include "recurrent/plan.hpp"

#include "device/env_flags.hpp"
#include "recurrent/plan_table.hpp"
#include "recurrent/sequence.hpp"

namespace fusedrnn::cuda {

namespace {

// How many times as large the larger is.
double apart(int64_t a, int64_t b) {
  return a > b ? static_cast<double>(a) / static_cast<double>(b) : static_cast<double>(b) / static_cast<double>(a);
}

// What was the fastest at the nearest sizes that were measured.
PlanKind measured_plan(const SequenceDesc& desc, int32_t compute_major) {
  PlanKind plan = PlanKind::step;
  double least = -1;
  for (const PlanRow& row : kPlanTable) {
    if (row.compute_major != compute_major || row.cell != desc.cell || row.precision != desc.precision) continue;
    const double distance = apart(row.H, desc.H) * apart(row.B, desc.B > 0 ? desc.B : 1);
    if (least >= 0 && distance >= least) continue;
    least = distance;
    plan = row.plan;
  }
  return plan;
}

const char* name_of(PlanKind plan) { return kPlanNames[static_cast<int32_t>(plan)]; }

}  // namespace

Status choose_plan(const SequenceDesc& desc, Element e, PlanChoice* plan) {
  const bool has_numbers = desc.plan == PlanKind::cluster || desc.plan == PlanKind::grid;
  if (desc.row_groups != 0 && !has_numbers)  // grids of threads are the CPU's, and its alone
    return fail(Status::unsupported,
                "plan %dx%dx%d is a grid of CPU threads: on CUDA a plan is reference, step, cluster or grid",
                desc.direction_groups, desc.row_groups, desc.unit_groups);
  hw::Limits limits;
  FR_TRY(hw::device_limits(&limits));
  *plan = PlanChoice{};
  plan->kind = desc.plan == PlanKind::automatic ? measured_plan(desc, limits.compute_major) : desc.plan;
  plan->overlaps = limits.overlaps && overlap_wanted();
  const bool cluster = plan->kind == PlanKind::cluster;
  if (!cluster && plan->kind != PlanKind::grid) return Status::ok;
  FR_TRY(cluster ? plan_clusters(desc, e, limits, &plan->cluster) : plan_grid(desc, e, limits, &plan->grid));
  const bool forward = cluster ? plan->cluster.forward_used : plan->grid.forward_used;
  const bool backward = cluster ? plan->cluster.backward_used : plan->grid.backward_used;
  const bool fits = forward && (backward || !desc.train);
  if (fits || !desc.plan_required || desc.B == 0) return Status::ok;
  return fail(
      Status::unsupported,
      "algo '%s' does not fit: this device has no room for %s of B = %lld, H = %lld in this cell and precision%s; take "
      "'auto' or 'step'",
      name_of(plan->kind), cluster ? "clusters" : "a grid", static_cast<long long>(desc.B),
      static_cast<long long>(desc.H), forward ? " for backward" : "");
}

// The groups are the blocks of the forward kernel: directions x tiles of rows x tiles of units.
Status sequence_plan(const SequenceDesc* desc, Plan* plan) {
  Element e{};
  PlanChoice choice;
  FR_TRY(element_of(*desc, &e));
  FR_TRY(choose_plan(*desc, e, &choice));
  const StackSize size(*desc, e);
  if (choice.cluster.forward_used || choice.grid.forward_used) {
    const ClusterShape& shape = choice.cluster.forward_used ? choice.cluster.forward : choice.grid.forward;
    *plan = Plan{name_of(choice.kind),
                 desc->directions,
                 static_cast<int32_t>((desc->B + shape.rows - 1) / shape.rows),
                 shape.blocks,
                 size.chunk_steps,
                 shape.rows,
                 shape.bytes,
                 choice.cluster.forward_used ? choice.cluster.forward_layers : 1};
    return Status::ok;
  }
  const CellSteps steps = steps_of(desc->cell);
  const int32_t units = steps.units(e);
  *plan = Plan{name_of(choice.kind == PlanKind::reference ? PlanKind::reference : PlanKind::step), desc->directions,
               static_cast<int32_t>((desc->B + steps.rows - 1) / steps.rows),
               static_cast<int32_t>((desc->H + units - 1) / units), size.chunk_steps};
  return Status::ok;
}

}  // namespace fusedrnn::cuda
