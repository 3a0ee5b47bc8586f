// What every update rule shares, and the factor of clipping. A rule is a struct template over a math policy M and knows
// one element: its parameter, its gradient (already scaled by the clip factor) and its states. M supplies
//
//   V                the value: lanes of float or double, one float on a GPU
//   constant(s)      V with the double s, rounded once
//   sqrt(v), max(a, b)   correctly rounded; b where either is NaN
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

}  // namespace fusedrnn
