// Arguments of every update kernel, and how it is launched.
#pragma once

#include "optim/norm.cuh"

namespace fusedrnn {

#define FUSEDRNN_DECLARED(kind, Rule, header) \
  template <class M>                          \
  struct Rule;
FUSEDRNN_RULES(FUSEDRNN_DECLARED)
#undef FUSEDRNN_DECLARED

}  // namespace fusedrnn

namespace fusedrnn::cuda {

// All arguments of a kernel but the segments.
struct UpdateTask {
  OptimizerArgs args;  // its segments: in `table`
  const double* lr;    // device memory, or nullptr: instead of args' learning rate
  int64_t* steps;      // likewise, instead of args.step: see backend.hpp's UpdateGroup
  const Fault* fault;  // or nullptr
  // The clipping that every block decides for itself, from the same sums in the same order; without sums: none but that
  // of args.clip_factor.
  SquareSums squares;
  double max_norm;
  double* norm;
  int32_t skip_nonfinite;
};

// Defined in update.cuh; instance.cu.in makes one for each rule.
template <template <class> class Rule>
Status launch_update(const UpdateTask& task, Stream stream);

}  // namespace fusedrnn::cuda
