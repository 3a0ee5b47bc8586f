// Gradient descent; with momentum (Polyak 1964), or Nesterov's form of it as Sutskever et al. (2013) write it:
//
//   v' = momentum v + g        p' = p - lr v'        Nesterov: p' = p - lr (g + momentum v')
//
// Dampening has v' = momentum v + (1 - dampening) g from the second step on, as PyTorch's.
#pragma once

#include "optim/rule.hpp"

namespace fusedrnn {

template <class M>
struct Sgd {
  using V = typename M::V;
  using S = sgd_scalars;
  V lr, momentum, weight_decay, share;
  bool decays, keeps, nesterov, dampens;

  FR_FN explicit Sgd(const OptimizerArgs& a)
      : lr(M::constant(a.scalar[S::lr])),
        momentum(M::constant(a.scalar[S::momentum])),
        weight_decay(M::constant(a.scalar[S::weight_decay])),
        share(M::constant(1 - a.scalar[S::dampening])),
        decays(a.scalar[S::weight_decay] != 0),
        keeps(a.scalar[S::momentum] != 0),
        nesterov(a.scalar[S::nesterov] != 0),
        dampens(a.scalar[S::dampening] != 0 && a.step > 1) {}

  FR_FN void update(V& p, V g, V* state) const {
    if (decays) g = g + weight_decay * p;
    if (keeps) {
      state[0] = momentum * state[0] + (dampens ? share * g : g);
      g = nesterov ? g + momentum * state[0] : state[0];
    }
    p = p - lr * g;
  }
};

}  // namespace fusedrnn
