// Absolute error: |p - t|, derivative its sign, 0 where both are equal.
#pragma once

#include "simd/lanes.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class T>
struct L1 {
  using L = Lanes<T>;
  using V = typename L::V;
  static constexpr double factor = 1;
  static constexpr bool weighted = false, bends = false;

  FR_INLINE static V entry(V p, V t, V& slope) {
    const V e = p - t, sign = L::select(L::eq(e, L::zero()), L::zero(), L::copysign(L::set(T(1)), e));
    slope = L::select(L::eq(e, e), sign, e);  // NaN stays
    return L::abs(e);
  }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
