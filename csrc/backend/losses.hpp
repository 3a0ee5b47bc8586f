// Losses with their gradients.
#pragma once

#include "backend/fault.hpp"
#include "losses/list.hpp"

namespace fusedrnn {

#define FUSEDRNN_KIND(kind, ...) kind,
enum class LossKind : int32_t { FUSEDRNN_LOSSES(FUSEDRNN_KIND, FUSEDRNN_KIND) };
#undef FUSEDRNN_KIND
enum class Reduction : int32_t { none = 0, mean, sum };

// A loss and its options: one value from Python to the kernels. A further option is a field here.
struct LossSpec {
  LossKind kind;
  Reduction reduction;
  int32_t has_ignore_index;
  int64_t ignore_index;  // 0 unless there is one
};

// An entry is an element or a row of classes, as losses/list.hpp says. pred has rows * classes elements, classes being
// the last axis; where entries are elements, `classes` of them share one mask value (1 where mask has the shape of
// pred). An entry counts when its mask is not 0 and its target is not ignore_index (for cross_entropy_probabilities the
// mask alone). Entries that do not count are never read into a result, give gradient 0 and (Reduction::none) loss 0,
// whatever pred and target hold there.
//
//   mse                          (p - t)^2
//   cross_entropy_classes        log(sum_k exp(p_k)) - p_t, t in [0, classes) where the entry counts
//   cross_entropy_probabilities  sum_k t_k (log(sum_j exp(p_j)) - p_k)
//   binary_cross_entropy         log(1 + exp(p)) - t p
//
// sum, or mean: sum / number of entries that count (0 where there are none), go to one float64 `loss`; none writes the
// entries' losses in dtype. dpred is the gradient of that number (none: of the sum), contiguous in the shape of pred.
struct LossArgs {
  LossSpec spec;
  DType dtype;
  int64_t rows, classes;
  Strided pred;    // as one row where elementwise and without gaps
  Strided target;  // dtype, as pred; of classes: int64, `rows` elements
  Strided mask;    // uint8, `rows` elements, or absent
  void* loss;
  void* dpred;
  double* partials;              // as many as loss_partials (scratch.hpp) says
  const Fault* fault = nullptr;  // of a device only: where it tells of one, a sum or mean is NaN
};

struct LossOps {
  Status (*loss)(const LossArgs*, Stream);
};

}  // namespace fusedrnn
