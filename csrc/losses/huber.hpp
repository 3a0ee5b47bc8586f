// Huber's loss (1964) of the error e = p - t, with q = min(|e|, delta): q (|e| - q / 2), which is e^2 / 2 up to delta
// and a line from there on; derivative e, cut to [-delta, delta].
#pragma once

#include "simd/lanes.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class T>
struct Huber {
  using L = Lanes<T>;
  using V = typename L::V;
  static constexpr double factor = 1;
  static constexpr bool weighted = false, bends = true;

  FR_INLINE static V entry(V p, V t, V delta, V& slope) {
    const V e = p - t, far = L::abs(e), near = L::min(delta, far);  // NaN where that is
    slope = L::copysign(near, e);
    return near * (far - L::set(T(0.5)) * near);
  }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
