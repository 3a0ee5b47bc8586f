// Which grid of threads runs a stack: direction_groups x row_groups x unit_groups over directions x rows x units.
//
// Directions meet once a layer. Rows are independent through the whole sequence, so row groups never wait for each
// other in forward; unit groups share a row and meet at a barrier every step, but keep their slice of the recurrent
// weights in their own cache. The choice never changes a bit: threads split outputs, not sums.
#pragma once

#include "backend/backend.hpp"
#include "gemm/engine.hpp"
#include "gemm/tiles.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// Work that a thread must have for a region to be worth it, with workers awake (runtime/wake_policy.hpp).
constexpr double kFlopsPerFork = 100e3;

// Where a thread stands in the grid. Threads of a row group are neighbours.
struct GridPosition {
  GridPosition(const Plan& plan, int32_t thread)
      : direction(thread / (plan.row_groups * plan.unit_groups)),
        row(thread / plan.unit_groups % plan.row_groups),
        unit(thread % plan.unit_groups) {}

  int32_t direction, row, unit;
};

inline int32_t threads_of(const Plan& plan) { return plan.direction_groups * plan.row_groups * plan.unit_groups; }

template <class E>
Plan make_plan(const SequenceDesc& desc, int gates, int64_t unit_panels) {
  const int64_t recurrent = gates * desc.H * state_units(desc);
  Plan plan{"grid", 1, 1, 1, desc.B > 0 ? EngineOf<E>::chunk_rows(recurrent) / desc.B : 1};
  if (plan.chunk_steps < 1) plan.chunk_steps = 1;
  if (plan.chunk_steps > desc.T) plan.chunk_steps = desc.T > 0 ? desc.T : 1;
  if (desc.row_groups > 0) {
    const Plan wanted{"grid", desc.direction_groups < desc.directions ? desc.direction_groups : desc.directions,
                      desc.row_groups, desc.unit_groups, plan.chunk_steps};
    return threads_of(wanted) <= desc.threads ? wanted : plan;
  }
  const double step = 2.0 * desc.B * static_cast<double>(recurrent + desc.P * desc.H);
  const double total = step * desc.T * desc.layers * desc.directions;
  if (desc.threads <= 1 || total / desc.threads < kFlopsPerFork) return plan;
  // Directions share nothing but a layer's input, so they go first.
  if (desc.directions == 2 && desc.threads % 2 == 0) plan.direction_groups = 2;
  const int32_t n = desc.threads / plan.direction_groups;
  const int64_t recurrent_bytes = recurrent * parts_of(desc.precision) * static_cast<int64_t>(sizeof(OperandOf<E>));
  const bool rows_hide_weights = desc.B >= n * EngineOf<E>::rows_apart;
  const bool rows_cached = recurrent_bytes <= kOwnCache && desc.B >= n * EngineOf<E>::rows_alone;
  if (rows_hide_weights || rows_cached)
    plan.row_groups = n;
  else if (unit_panels >= n && step / n > desc.barrier_flops)
    plan.unit_groups = n;
  else if (desc.B >= n)
    plan.row_groups = n;
  return plan;
}

}  // namespace fusedrnn::FUSEDRNN_ISA
