// The math policy of CPU kernels: what cells, losses and layers compute with (interface: cells/cell.hpp).
#pragma once

#include "simd/exp.hpp"
#include "simd/lanes.hpp"
#include "simd/log.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class T>
struct Math {
  using L = Lanes<T>;
  using V = typename L::V;

  FR_INLINE static V constant(double value) { return L::set(static_cast<T>(value)); }
  FR_INLINE static V fma(V a, V b, V c) { return L::fma(a, b, c); }

  FR_INLINE static V exp(V x) { return Exp<T>::exp(x); }
  FR_INLINE static V sigmoid(V x) { return Exp<T>::sigmoid(x); }
  FR_INLINE static V tanh(V x) { return Exp<T>::tanh(x); }
  FR_INLINE static V log(V x) { return Log<T>::log(x); }
  FR_INLINE static V log1p(V y) { return Log<T>::log1p(y); }  // for 0 <= y <= 1

  FR_INLINE static V sigmoid_slope(V s) { return L::fma(-s, s, s); }
  FR_INLINE static V tanh_slope(V t) { return L::fma(-t, t, L::set(1)); }

  FR_INLINE static V relu(V x) { return L::max(L::zero(), x); }                                      // NaN stays NaN
  FR_INLINE static V relu_grad(V h, V dh) { return L::select(L::eq(h, L::zero()), L::zero(), dh); }  // h = relu(x)
};

}  // namespace fusedrnn::FUSEDRNN_ISA
