// RMSprop (Hinton 2012); centred (Graves 2013): by the variance of the gradient instead of its mean square:
//
//   s' = alpha s + (1 - alpha) g^2        m' = m + (1 - alpha) (g - m)
//   u  = g / (sqrt(s' [- m'^2]) + eps)    p' = p - lr u, with momentum v' = momentum v + u and p' = p - lr v'
//
// Rounding can leave s' - m'^2 a little below zero, which counts as zero (PyTorch's square root gives NaN there).
#pragma once

#include "optim/rule.hpp"

namespace fusedrnn {

template <class M>
struct RmsProp {
  using V = typename M::V;
  using S = rmsprop_scalars;
  V lr, alpha, rest, eps, momentum, weight_decay, zero;
  bool decays, keeps, centered;

  FR_FN explicit RmsProp(const OptimizerArgs& a)
      : lr(M::constant(a.scalar[S::lr])),
        alpha(M::constant(a.scalar[S::alpha])),
        rest(M::constant(1 - a.scalar[S::alpha])),
        eps(M::constant(a.scalar[S::eps])),
        momentum(M::constant(a.scalar[S::momentum])),
        weight_decay(M::constant(a.scalar[S::weight_decay])),
        zero(M::constant(0)),
        decays(a.scalar[S::weight_decay] != 0),
        keeps(a.scalar[S::momentum] != 0),
        centered(a.scalar[S::centered] != 0) {}

  FR_FN void update(V& p, V g, V* state) const {
    if (decays) g = g + weight_decay * p;
    state[0] = alpha * state[0] + rest * g * g;
    V spread = state[0];
    if (centered) {
      state[2] = state[2] + rest * (g - state[2]);
      spread = M::max(zero, state[0] - state[2] * state[2]);
    }
    V u = g / (M::sqrt(spread) + eps);
    if (keeps) {
      state[1] = momentum * state[1] + u;
      u = state[1];
    }
    p = p - lr * u;
  }
};

}  // namespace fusedrnn
