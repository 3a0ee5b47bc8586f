// What every update rule shares, and the factor of clipping. A rule is a struct template over a math policy M and knows
// one element: its parameter, its gradient (already scaled by the clip factor) and its states. M supplies
//
//   V                the value: lanes of float or double, one float on a GPU
//   constant(s)      V with the double s, rounded once
//   sqrt(v), max(a, b)   correctly rounded; b where either is NaN or both are zero
//
// and V has + - * /. Interface of a rule:
//
//   Rule(const OptimizerArgs&)                    scalars of this step, computed in double, rounded once; list.hpp
//                                                 names them
//   update(param, grad, state)                    all three are changed in place; grad on its way only
//
// Rules are PyTorch's (2.13). Weight decay is added to the clipped gradient, but by AdamW, which shrinks the parameter.
#pragma once

#include "backend/backend.hpp"
#include "cells/cell.hpp"

namespace fusedrnn {

// base^n by squaring.
FR_FN double power(double base, int64_t n) {
  double result = 1;
  for (; n > 0; n >>= 1, base *= base)
    if (n & 1) result *= base;
  return result;
}

// What gradients are scaled by to have a norm of at most max_norm. PyTorch's formula; a NaN norm gives NaN.
FR_FN double clip_factor(double max_norm, double norm) {
  const double factor = max_norm / (norm + 1e-6);
  return factor > 1 ? 1 : factor;
}

// A running mean, keep m + (1 - keep) g, from whichever end is nearer, as torch.lerp. So nothing of a large old mean is
// left in the rounding of one that forgets it, and the weights of one that changes slowly add up to 1.
template <class M>
struct RunningMean {
  using V = typename M::V;
  V weight;
  bool from_new;

  RunningMean() = default;
  FR_FN explicit RunningMean(double keep) : weight(M::constant(keep > 0.5 ? 1 - keep : keep)), from_new(keep <= 0.5) {}
  FR_FN V operator()(V mean, V g) const { return from_new ? g + weight * (mean - g) : mean + weight * (g - mean); }
};

}  // namespace fusedrnn
