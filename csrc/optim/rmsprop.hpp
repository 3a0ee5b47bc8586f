// RMSprop (Hinton 2012); centred (Graves 2013): by the variance of the gradient instead of its mean square:
//
//   s' = alpha s + (1 - alpha) g^2        m' = alpha m + (1 - alpha) g
//   u  = g / (sqrt(s') + eps)             p' = p - lr u, with momentum b' = momentum b + u and p' = p - lr b'
//
// Centred, u has v' instead of s'. It is s' - m'^2, but where gradients vary little that would be nothing but the
// rounding of s' and m'^2, so the variance is a state of its own: v' = alpha (v + (1 - alpha) (g - m)^2).
#pragma once

#include "optim/rule.hpp"

namespace fusedrnn {

template <class M>
struct RmsProp {
  using V = typename M::V;
  using S = rmsprop_scalars;
  V lr, alpha, rest, eps, momentum, weight_decay;
  RunningMean<M> mean;
  bool decays, keeps, centered;

  FR_FN explicit RmsProp(const OptimizerArgs& a)
      : lr(M::constant(a.scalar[S::lr])),
        alpha(M::constant(a.scalar[S::alpha])),
        rest(M::constant(1 - a.scalar[S::alpha])),
        eps(M::constant(a.scalar[S::eps])),
        momentum(M::constant(a.scalar[S::momentum])),
        weight_decay(M::constant(a.scalar[S::weight_decay])),
        mean(a.scalar[S::alpha]),
        decays(a.scalar[S::weight_decay] != 0),
        keeps(a.scalar[S::momentum] != 0),
        centered(a.scalar[S::centered] != 0) {}

  FR_FN void update(V& p, V g, V* state) const {
    if (decays) g = g + weight_decay * p;
    state[0] = alpha * state[0] + rest * g * g;
    if (centered) {
      const V off = g - state[2];
      state[3] = alpha * (state[3] + rest * off * off);
      state[2] = mean(state[2], g);
    }
    V u = g / (M::sqrt(centered ? state[3] : state[0]) + eps);
    if (keeps) {
      state[1] = momentum * state[1] + u;
      u = state[1];
    }
    p = p - lr * u;
  }
};

}  // namespace fusedrnn
