// A plan the caller asks for instead of the one the backend would choose, for tests and measurements: a grid of threads
// on a CPU, a kind of kernel on a GPU.
#pragma once

#include <cstdint>
#include <string>

#include "backend/backend.hpp"

namespace fusedrnn {

struct PlanOverride {
  int32_t direction_groups, row_groups, unit_groups;  // all 0: no grid is forced
  PlanKind kind;
};

// The last force_plan, else FUSEDRNN_PLAN. Throws std::runtime_error when that variable is malformed.
PlanOverride plan_override();

// "ROWSxUNITS" or "DIRECTIONSxROWSxUNITS", each at least 1, or a name of kPlanNames but "auto", or
// "cluster:ROWSxBLOCKS", clusters for 8, 16 or 32 rows of at most so many blocks, and "cluster:ROWSxBLOCKSx1", which
// keeps them from two layers at once, or "grid:ROWSxBLOCKS", groups of blocks for 8, 16 (ieee, tf32x3) or 32 (less)
// rows, at most so many blocks at once; "" leaves the choice to the backend again. A grid of more threads than a call
// gets is not used by it; a plan of another kind of backend makes calls fail. Throws std::invalid_argument when `text`
// is none of these.
void force_plan(const std::string& text);

// A plan by its name in kPlanNames; false where there is none.
bool plan_kind(const std::string& name, PlanKind& kind);

// Threads for the backend to plan with, and the plan the caller forces on it, but where the descriptor requires one.
void offer_threads(SequenceDesc& desc, int32_t threads);

}  // namespace fusedrnn
