// Who waits for whom: the barriers of a grid of threads.
#pragma once

#include "sequence/plan.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// One for the whole team, one per direction group, one per row group of each direction group.
inline int32_t barriers_of(const Plan& plan) { return 1 + plan.direction_groups * (1 + plan.row_groups); }

class Barriers {
 public:
  Barriers(Team* team, Barrier* barrier, const Plan& plan, const GridPosition& place)
      : team_(team), barrier_(barrier), plan_(plan), position_(place) {}

  void all() const { wait(0, threads_of(plan_)); }
  void direction() const { wait(1 + position_.direction, plan_.row_groups * plan_.unit_groups); }
  void row_group() const {
    wait(1 + plan_.direction_groups + position_.direction * plan_.row_groups + position_.row, plan_.unit_groups);
  }

 private:
  void wait(int32_t which, int32_t threads) const {
    if (threads > 1) team_->wait(team_, barrier_ + which, threads);
  }

  Team* team_;
  Barrier* barrier_;
  const Plan& plan_;
  const GridPosition position_;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
