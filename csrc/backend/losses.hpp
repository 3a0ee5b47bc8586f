// Losses with their gradients.
#pragma once

#include "backend/fault.hpp"

namespace fusedrnn {

enum class LossKind : int32_t { mse = 0, cross_entropy_classes, cross_entropy_probabilities, binary_cross_entropy };
enum class Reduction : int32_t { none = 0, mean, sum };

// An entry is an element (mse, binary_cross_entropy) or a row of classes (cross_entropy_*). pred has rows * classes
// elements, classes being the last axis; for mse and binary_cross_entropy, `classes` elements share one mask value
// (1 where mask has the shape of pred). An entry counts when its mask is not 0 and its target is not ignore_index
// (for cross_entropy_probabilities the mask alone). Entries that do not count are never read into a result, give
// gradient 0 and (Reduction::none) loss 0, whatever pred and target hold there.
//
//   mse                          (p - t)^2
//   cross_entropy_classes        log(sum_k exp(p_k)) - p_t, t in [0, classes) where the entry counts
//   cross_entropy_probabilities  sum_k t_k (log(sum_j exp(p_j)) - p_k)
//   binary_cross_entropy         log(1 + exp(p)) - t p
//
// sum, or mean: sum / number of entries that count (0 where there are none), go to one float64 `loss`; none writes the
// entries' losses in dtype. dpred is the gradient of that number (none: of the sum), contiguous in the shape of pred.
struct LossArgs {
  LossKind kind;
  Reduction reduction;
  DType dtype;
  int64_t rows, classes;
  Strided pred;    // as one row where elementwise and without gaps
  Strided target;  // dtype, as pred; cross_entropy_classes: int64, `rows` elements
  Strided mask;    // uint8, `rows` elements, or absent
  int32_t has_ignore_index;
  int64_t ignore_index;
  void* loss;
  void* dpred;
  double* partials;              // one per kReduceChunk elements, or per row of a cross-entropy
  const Fault* fault = nullptr;  // of a device only: where it tells of one, a sum or mean is NaN
};

struct LossOps {
  Status (*loss)(const LossArgs*, Stream);
};

}  // namespace fusedrnn
