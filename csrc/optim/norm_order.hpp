// The order in which the squares of gradients are added, on every backend: groups of float32, then those of float64,
// each in the order in which they are given. So the norm of parameters of both types has the same bits whether an
// optimizer's tables, a list of arrays or a training step asks for it.
#pragma once

#include "backend/backend.hpp"

namespace fusedrnn {

// add(i) for every i in [0, groups), in that order, until one fails; group(i) has a dtype.
template <class Group, class Add>
inline __attribute__((always_inline)) Status in_norm_order(int64_t groups, const Group& group, const Add& add) {
  Status status = Status::ok;
  for (int wide = 0; wide < 2; ++wide)
    for (int64_t i = 0; i < groups && status == Status::ok; ++i)
      if ((group(i).dtype == DType::float64) == (wide == 1)) status = add(i);
  return status;
}

}  // namespace fusedrnn
