// Which kernels compute a stack, on the calling thread's device.
#pragma once

#include "products/element.cuh"
#include "recurrent/cluster/cluster.hpp"
#include "recurrent/grid/grid.hpp"

namespace fusedrnn::cuda {

// reference and step are whole plans; of cluster and grid, what fits which shape: the rest goes step by step.
struct PlanChoice {
  PlanKind kind;
  bool overlaps;  // kernels of a step begin while those of the step before run
  ClusterPlan cluster;
  GridPlan grid;
};

// As desc.plan wants it, or by the table of plan_table.hpp where it leaves the choice. Refuses a plan that is not this
// backend's, and one that is required and does not fit.
Status choose_plan(const SequenceDesc& desc, Element e, PlanChoice* plan);

// The clusters that a stack gets on this device, if any.
Status plan_clusters(const SequenceDesc& desc, Element e, const hw::Limits& limits, ClusterPlan* plan);

// Likewise the groups of blocks of the plan `grid`.
Status plan_grid(const SequenceDesc& desc, Element e, const hw::Limits& limits, GridPlan* plan);

}  // namespace fusedrnn::cuda
