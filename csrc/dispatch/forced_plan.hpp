// A grid of threads somebody asks for instead of the one the backend would choose, for tests and measurements.
#pragma once

#include <cstdint>
#include <string>

namespace fusedrnn {

struct ForcedPlan {
  int32_t direction_groups, row_groups, unit_groups;  // all 0: nothing is forced
};

// The last force_plan, else FUSEDRNN_PLAN. Throws std::runtime_error when that variable is malformed.
ForcedPlan forced_plan();

// "ROWSxUNITS" or "DIRECTIONSxROWSxUNITS", each at least 1; "" leaves the choice to the backend again. A grid of more
// threads than a call gets is not used by it. Throws std::invalid_argument when `text` is neither.
void force_plan(const std::string& text);

}  // namespace fusedrnn
