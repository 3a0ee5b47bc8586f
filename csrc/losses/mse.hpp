// Mean squared error: (p - t)^2, derivative 2 (p - t).
#pragma once

#include "simd/lanes.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class T>
struct Mse {
  using V = typename Lanes<T>::V;
  static constexpr double factor = 2;
  static constexpr bool weighted = false;

  FR_INLINE static V entry(V p, V t, V& slope) {
    slope = p - t;
    return slope * slope;
  }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
