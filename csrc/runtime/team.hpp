// The process's thread team, lent to one call at a time.
//
//   TeamLease lease;                                   // before the work, GIL released
//   backend.sequence->forward(&desc, &args, workspace, lease.team());
//
// The lease must end before the GIL is taken again: a fork holds the GIL while it waits for the lease.
//
// A call that finds the team busy gets a team of size 1 (the same bits, see csrc/README.md). For the lifetime of the
// lease the calling thread, and in every parallel region the workers, compute with round to nearest, denormals kept and
// floating-point exceptions masked, whatever the caller's settings; the caller's are restored at its end.
#pragma once

#include "backend/backend.hpp"
#include "runtime/fpenv.hpp"

namespace fusedrnn {

// A team of the calling thread alone: for what one thread of a region does by itself. Needs no lease.
Team* solo_team();

class TeamLease {
 public:
  TeamLease();
  ~TeamLease();
  TeamLease(const TeamLease&) = delete;
  TeamLease& operator=(const TeamLease&) = delete;

  Team* team() { return team_; }
  int32_t size() const { return team_->size; }

  // Whether all workers are spinning, so that handing them work costs next to nothing. Waking them costs 5 us, and in a
  // virtual machine whose idle CPUs are taken away 130 us (measured), so small work is left to the calling thread then.
  bool awake() const;

  // Has workers awake for the next call, without waiting for them, if calls follow each other closely; else does
  // nothing.
  void prewake();

 private:
  FpEnvironment environment_;
  Team* team_;
  bool follows_ = false;  // the lease before ended just now
};

}  // namespace fusedrnn
