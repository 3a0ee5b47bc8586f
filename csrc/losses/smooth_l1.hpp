// Smooth absolute error (Girshick 2015) of e = p - t: Huber's loss with delta = beta, divided by beta. So it is
// |e| - beta / 2 from beta on, with derivative 1 or -1.
#pragma once

#include "simd/lanes.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class T>
struct SmoothL1 {
  using L = Lanes<T>;
  using V = typename L::V;
  static constexpr double factor = 1;
  static constexpr bool weighted = false, bends = true;

  FR_INLINE static V entry(V p, V t, V beta, V& slope) {
    const V e = p - t, far = L::abs(e), near = L::min(beta, far), part = near / beta;
    slope = L::copysign(part, e);
    return part * (far - L::set(T(0.5)) * near);
  }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
