// Adagrad (Duchi et al. 2011), with a learning rate that decays with the step k = 1, 2, ..:
//
//   s' = s + g^2        p' = p - lr / (1 + (k - 1) lr_decay) g / (sqrt(s') + eps)
#pragma once

#include "optim/rule.hpp"

namespace fusedrnn {

template <class M>
struct Adagrad {
  using V = typename M::V;
  using S = adagrad_scalars;
  V lr, eps, weight_decay;
  bool decays;

  FR_FN explicit Adagrad(const OptimizerArgs& a)
      : lr(M::constant(a.scalar[S::lr] / (1 + static_cast<double>(a.step - 1) * a.scalar[S::lr_decay]))),
        eps(M::constant(a.scalar[S::eps])),
        weight_decay(M::constant(a.scalar[S::weight_decay])),
        decays(a.scalar[S::weight_decay] != 0) {}

  FR_FN void update(V& p, V g, V* state) const {
    if (decays) g = g + weight_decay * p;
    state[0] = state[0] + g * g;
    p = p - lr * (g / (M::sqrt(state[0]) + eps));
  }
};

}  // namespace fusedrnn
