// Binary cross-entropy on a logit p: log(1 + exp(p)) - t p, derivative sigmoid(p) - t.
//
// With e = exp(-|p|), at most 1: the loss is max(p, 0) - t p + log(1 + e), and the derivative is written as
// (1 - t) sigmoid(p) - t sigmoid(-p), which does not cancel where the prediction is right.
#pragma once

#include "simd/math.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class T>
struct BinaryCrossEntropy {
  using L = Lanes<T>;
  using V = typename L::V;
  static constexpr double factor = 1;
  static constexpr bool weighted = true;

  FR_INLINE static V entry(V p, V t, V& slope) {
    const V one = L::set(T(1)), e = Math<T>::exp(-L::abs(p));
    const V large = one / (one + e), small = e * large;
    const auto positive = L::gt(p, L::zero());
    slope = (one - t) * L::select(positive, large, small) - t * L::select(positive, small, large);
    return L::max(L::zero(), p) - t * p + Math<T>::log1p(e);
  }

  // With the weight w of a positive target: w t log(1 + exp(-p)) + (1 - t) log(1 + exp(p)).
  FR_INLINE static V entry(V p, V t, V w, V& slope) {
    const V one = L::set(T(1)), e = Math<T>::exp(-L::abs(p));
    const V large = one / (one + e), small = e * large;
    const V pro = w * t, contra = one - t;
    const auto positive = L::gt(p, L::zero());
    slope = contra * L::select(positive, large, small) - pro * L::select(positive, small, large);
    return L::select(positive, contra, pro) * L::abs(p) + (pro + contra) * Math<T>::log1p(e);
  }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
