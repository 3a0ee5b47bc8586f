// Polynomials over lanes.
#pragma once

#include "simd/lanes.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// Horner's rule, coefficients from the highest power down to the constant.
template <class L, class T, class... C>
FR_INLINE typename L::V horner(typename L::V x, T highest, C... rest) {
  typename L::V p = L::set(highest);
  ((p = L::fma(p, x, L::set(rest))), ...);
  return p;
}

}  // namespace fusedrnn::FUSEDRNN_ISA
