// Adagrad (Duchi et al. 2011), with a learning rate that decays with the step k = 1, 2, ..:
//
//   s' = s + g^2        p' = p - lr / (1 + (k - 1) lr_decay) g / (sqrt(s') + eps)
#pragma once

#include "optim/rule.hpp"

namespace fusedrnn {

template <class M>
struct Adagrad {
  using V = typename M::V;
  V lr, eps, weight_decay;
  bool decays;

  FR_FN explicit Adagrad(const OptimizerArgs& a)
      : lr(M::constant(a.lr / (1 + static_cast<double>(a.step - 1) * a.lr_decay))),
        eps(M::constant(a.eps)),
        weight_decay(M::constant(a.weight_decay)),
        decays(a.weight_decay != 0) {}

  FR_FN void update(V& p, V g, V* state) const {
    if (decays) g = g + weight_decay * p;
    state[0] = state[0] + g * g;
    p = p - lr * (g / (M::sqrt(state[0]) + eps));
  }
};

}  // namespace fusedrnn
