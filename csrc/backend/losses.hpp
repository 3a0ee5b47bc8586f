// Losses with their gradients.
#pragma once

#include "backend/fault.hpp"
#include "losses/list.hpp"

namespace fusedrnn {

#define FUSEDRNN_KIND(kind, ...) kind,
enum class LossKind : int32_t { FUSEDRNN_LOSSES(FUSEDRNN_KIND, FUSEDRNN_KIND) };
#undef FUSEDRNN_KIND
enum class Reduction : int32_t { none = 0, mean, sum };

// An option's name in the list, nullptr for `none`.
constexpr const char* option_named(const char* word) {
  const char* none = "none";
  for (const char* at = word; *at == *none; ++at, ++none)
    if (*at == 0) return nullptr;
  return word;
}

// A loss and its options: one value from Python to the kernels. A further option is a field here.
struct LossSpec {
  LossKind kind;
  Reduction reduction;
  int32_t has_ignore_index;
  int64_t ignore_index;    // 0 unless there is one
  double label_smoothing;  // 0 unless the loss has it
  double threshold;        // > 0 and normal in dtype: where a parabola becomes a line; 0 unless the loss has one
};

// An entry is an element or a row of classes, as losses/list.hpp says. pred has rows * classes elements, classes being
// the last axis; where entries are elements, `classes` of them share one mask value (1 where mask has the shape of
// pred). An entry counts when its mask is not 0 and its target is not ignore_index (for cross_entropy_probabilities the
// mask alone). Entries that do not count are never read into a result, give gradient 0 and (Reduction::none) loss 0,
// whatever pred and target hold there.
//
//   mse                          (p - t)^2
//   cross_entropy_classes        sum_k w_k u_k (log(sum_j exp(p_j)) - p_k), u_k = (1 - label_smoothing) [k = t] +
//                                label_smoothing / classes, t in [0, classes) where the entry counts
//   cross_entropy_probabilities  the same with t_k instead of [k = t]
//   binary_cross_entropy         w t log(1 + exp(-p)) + (1 - t) log(1 + exp(p))
//   l1                           |p - t|
//   huber                        q (|p - t| - q / 2), q = min(|p - t|, threshold)
//   smooth_l1                    that divided by threshold
//   nll                          -w p_t, p being log-probabilities
//
// w is `weight`, 1 where that is absent: of each class, or of what speaks for a positive target. Nothing counts that is
// multiplied by 0, be it infinite.
//
// sum, or mean: sum / number of entries that count, for classes as target the sum of their w_t (0 where that is 0),
// go to one float64 `loss`; none writes the entries' losses in dtype. dpred is the gradient of that number (none: of
// the sum), contiguous in the shape of pred. On a CPU it may be pred's own memory where `replaces_pred` says so.
struct LossArgs {
  LossSpec spec;
  DType dtype;
  int64_t rows, classes;
  Strided pred;    // as one row where elementwise and without gaps
  Strided target;  // dtype, as pred; of classes: int64, `rows` elements
  Strided mask;    // uint8, `rows` elements, or absent
  // nullptr, or `weights` numbers: one for each class; of binary_cross_entropy, element i has number i % weights.
  const double* weight;
  int64_t weights;
  void* loss;
  void* dpred;
  double* partials;              // as many as loss_partials (scratch.hpp) says
  const Fault* fault = nullptr;  // of a device only: where it tells of one, a sum or mean is NaN
};

// Whether a kernel on a CPU has read of an entry all it needs before it writes the first of its gradient.
inline bool replaces_pred(const LossSpec& spec) {
  return spec.kind == LossKind::cross_entropy_classes && spec.label_smoothing == 0;
}

struct LossOps {
  Status (*loss)(const LossArgs*, Stream);
};

}  // namespace fusedrnn
