// How activations divide: by IEEE's division. A device whose division costs more than its activations brings another
// way to the same bits (cuda/math.cuh), before it includes exp.hpp.
#pragma once

#include "simd/lanes.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// power / v, of a power of two; v and 1 / v are normal numbers, the quotient may be subnormal. NaN of NaN.
template <class T>
struct Quotient {
  using V = typename Lanes<T>::V;
  FR_INLINE static V of(V power, V v) { return power / v; }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
