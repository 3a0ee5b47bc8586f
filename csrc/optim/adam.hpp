// Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019), with c = 1 - beta^step, or 1 without bias correction:
//
//   AdamW first: p = (1 - lr weight_decay) p
//   m' = m + (1 - beta1) (g - m)      v' = beta2 v + (1 - beta2) g^2      p' = p - lr / c1 m' / (sqrt(v' / c2) + eps)
//
// AMSGrad (Reddi et al. 2018): by x' = max(x, v') instead of v'.
#pragma once

#include "optim/rule.hpp"

namespace fusedrnn {

template <class M>
struct Adam {
  using V = typename M::V;
  using S = adam_scalars;
  V step_size, rest1, beta2, rest2, inverse_root, eps, weight_decay, shrink;
  bool decays, decoupled, amsgrad;

  FR_FN explicit Adam(const OptimizerArgs& a) {
    const double c1 = a.scalar[S::bias_correction] ? 1 - power(a.scalar[S::beta1], a.step) : 1;
    const double c2 = a.scalar[S::bias_correction] ? 1 - power(a.scalar[S::beta2], a.step) : 1;
    step_size = M::constant(a.scalar[S::lr] / c1);
    rest1 = M::constant(1 - a.scalar[S::beta1]);
    beta2 = M::constant(a.scalar[S::beta2]);
    rest2 = M::constant(1 - a.scalar[S::beta2]);
    inverse_root = M::constant(1 / __builtin_sqrt(c2));
    eps = M::constant(a.scalar[S::eps]);
    weight_decay = M::constant(a.scalar[S::weight_decay]);
    shrink = M::constant(1 - a.scalar[S::lr] * a.scalar[S::weight_decay]);
    decays = a.scalar[S::weight_decay] != 0;
    decoupled = a.kind == OptimizerKind::adamw;
    amsgrad = a.scalar[S::amsgrad] != 0;
  }

  FR_FN void update(V& p, V g, V* state) const {
    if (decays) {
      if (decoupled)
        p = p * shrink;
      else
        g = g + weight_decay * p;
    }
    state[0] = state[0] + rest1 * (g - state[0]);
    state[1] = beta2 * state[1] + rest2 * g * g;
    V square = state[1];
    if (amsgrad) square = state[2] = M::max(state[2], square);
    p = p - step_size * (state[0] / (M::sqrt(square) * inverse_root + eps));
  }
};

}  // namespace fusedrnn
