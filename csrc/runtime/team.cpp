#include "runtime/team.hpp"

namespace fusedrnn {
namespace {

void run_alone(Team*, int32_t n, void (*body)(void*, int32_t), void* context) {
  if (n == 1) body(context, 0);
}
void wait_alone(Team*, Barrier*, int32_t) {}

Team alone{1, run_alone, wait_alone};

}  // namespace

TeamLease::TeamLease() : team_(&alone) {}
TeamLease::~TeamLease() = default;

}  // namespace fusedrnn
