// The math policy of update rules: lanes, on a GPU one wide.
#pragma once

#include "simd/lanes.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class T>
struct Arithmetic {
  using L = Lanes<T>;
  using V = typename L::V;
  FR_INLINE static V constant(double s) { return L::set(static_cast<T>(s)); }
  FR_INLINE static V sqrt(V v) { return L::sqrt(v); }
  FR_INLINE static V max(V a, V b) { return L::max(a, b); }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
