// The choice of a plan, and the plan as data.
#include "plan.hpp"

#include "plan_table.hpp"
#include "sequence.hpp"

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

const char* name_of(PlanKind plan) {
  return plan == PlanKind::reference ? "reference" : plan == PlanKind::cluster ? "cluster" : "step";
}

}  // namespace

Status choose_plan(const SequenceDesc& desc, Element e, PlanChoice* plan) {
  if (desc.row_groups != 0 && desc.plan != PlanKind::cluster)  // grids of threads are the CPU's, and its alone
    return fail(Status::unsupported,
                "plan %dx%dx%d is a grid of CPU threads: on CUDA a plan is reference, step or cluster",
                desc.direction_groups, desc.row_groups, desc.unit_groups);
  door::Limits limits;
  FR_TRY(door::device_limits(&limits));
  *plan = PlanChoice{};
  plan->kind = desc.plan == PlanKind::automatic ? measured_plan(desc, limits.compute_major) : desc.plan;
  plan->overlaps = limits.overlaps;
  if (plan->kind != PlanKind::cluster) return Status::ok;
  FR_TRY(plan_clusters(desc, e, limits, &plan->cluster));
  const bool fits = plan->cluster.forward_used && (plan->cluster.backward_used || !desc.train);
  if (fits || !desc.plan_required || desc.B == 0) return Status::ok;
  return fail(
      Status::unsupported,
      "algo 'cluster' does not fit: this device has no room for clusters of B = %lld, H = %lld in this cell and "
      "precision%s; take 'auto' or 'step'",
      static_cast<long long>(desc.B), static_cast<long long>(desc.H),
      plan->cluster.forward_used ? " for backward" : "");
}

// The groups are the blocks of the forward kernel: directions x tiles of rows x tiles of units.
Status sequence_plan(const SequenceDesc* desc, Plan* plan) {
  Element e{};
  PlanChoice choice;
  FR_TRY(element_of(*desc, &e));
  FR_TRY(choose_plan(*desc, e, &choice));
  const StackSize size(*desc, e);
  if (choice.cluster.forward_used) {
    const ClusterShape& shape = choice.cluster.forward;
    *plan = Plan{name_of(choice.kind),
                 desc->directions,
                 static_cast<int32_t>((desc->B + shape.rows - 1) / shape.rows),
                 shape.blocks,
                 size.chunk_steps,
                 shape.rows,
                 shape.bytes,
                 choice.cluster.forward_layers};
    return Status::ok;
  }
  const CellSteps steps = steps_of(desc->cell);
  const int32_t units = steps.units(e);
  *plan = Plan{name_of(choice.kind == PlanKind::cluster ? PlanKind::step : choice.kind), desc->directions,
               static_cast<int32_t>((desc->B + steps.rows - 1) / steps.rows),
               static_cast<int32_t>((desc->H + units - 1) / units), size.chunk_steps};
  return Status::ok;
}

}  // namespace fusedrnn::cuda
