// An optimizer's whole step on a CPU: the norm, then the updates.
#pragma once

#include "optim/global_norm.hpp"
#include "optim/update.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

inline Status clipped_update(const ClippedUpdateArgs* a, Stream stream) {
  const auto group_of = [&](int64_t i) -> const OptimizerArgs& { return a->group[i].update; };
  double norm = 0;
  Status status = Status::ok;
  if (a->norm) status = global_norm(a->groups, group_of, a->partials, static_cast<Team*>(stream), &norm);
  if (status != Status::ok) return status;
  const double factor = clip_factor(a->max_norm, norm);
  const bool applies = !a->norm || !a->skip_nonfinite || __builtin_isfinite(norm);
  if (a->norm) *a->norm = norm;
  for (int64_t i = 0; i < a->groups && status == Status::ok; ++i) {
    const UpdateGroup& group = a->group[i];
    OptimizerArgs u = group.update;
    u.clip_factor = a->norm ? &factor : nullptr;
    if (group.lr) u.scalar[kLearningRate] = *group.lr;
    if (group.steps) {
      group.steps[0] = group.steps[1];
      u.step = group.steps[0] + 1;
      group.steps[1] += applies;
    }
    if (applies) status = optimizer(&u, stream);
  }
  return status;
}

}  // namespace fusedrnn::FUSEDRNN_ISA
