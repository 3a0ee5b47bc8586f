// log and log1p over lanes, float and double; the same bits on every ISA, like exp.hpp. Bounds asserted by
// tests/native/test_math.cpp, in ulp of the result:
//
//            log     log1p
//   float    1.0     1.1
//   double   1.1     1.0
//
// How: v = 2^e m with m in [sqrt(1/2), sqrt(2)), f = m - 1, s = f / (2 + f), and with z = s^2
//   log(1 + f) = 2 atanh(s) = 2 s + s z P(z) = f - s (f - z P(z)),
// whose last form keeps f, which is exact, as the leading term. P is near-minimax for z <= 1/9, by minimax.py.
#pragma once

#include "simd/horner.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class T>
struct LogParts;

template <>
struct LogParts<float> {
  using L = Lanes<float>;
  static constexpr float kLn2High = 0x1.62e43p-1f, kLn2Low = -0x1.05c61p-29f;
  static constexpr float kSmallestNormal = 0x1p-126f, kLift = 0x1p24f, kLiftLog2 = 24;
  static constexpr float kInfinity = __builtin_inff(), kNaN = __builtin_nanf("");
  FR_INLINE static L::V atanh_tail(L::V z) {
    return horner<L>(z, 0x1.1ec4f4p-2f, 0x1.1ec12ap-2f, 0x1.99d1c2p-2f, 0x1.555502p-1f);
  }
};

template <>
struct LogParts<double> {
  using L = Lanes<double>;
  static constexpr double kLn2High = 0x1.62e42fefa39efp-1, kLn2Low = 0x1.abc9e3b39803fp-56;
  static constexpr double kSmallestNormal = 0x1p-1022, kLift = 0x1p54, kLiftLog2 = 54;
  static constexpr double kInfinity = __builtin_inf(), kNaN = __builtin_nan("");
  FR_INLINE static L::V atanh_tail(L::V z) {
    return horner<L>(z, 0x1.5c5ec8e95eefbp-3, 0x1.55cc24c93f6d3p-4, 0x1.efd262071a077p-4, 0x1.10681f5b95d9cp-3,
                     0x1.3b1dd50f3bef9p-3, 0x1.745cb445af6bfp-3, 0x1.c71c741abb1f9p-3, 0x1.249249208f2f5p-2,
                     0x1.99999999a0716p-2, 0x1.5555555555535p-1);
  }
};

template <class T>
struct Log : LogParts<T> {
  using P = LogParts<T>;
  using L = Lanes<T>;
  using V = typename L::V;

  // log(1 + y) for sqrt(1/2) <= 1 + y <= 2: what a loss needs of it, y = e^-|x|.
  FR_INLINE static V log1p(V y) {
    const V s = y / (L::set(2) + y);
    const V z = s * s;
    return L::fma(-s, L::fma(-z, P::atanh_tail(z), y), y);
  }

  // log(0) = -infinity; of a negative number NaN.
  FR_INLINE static V log(V v) {
    const typename L::M subnormal = L::lt(v, L::set(P::kSmallestNormal));
    V e;
    const V m = L::split(L::select(subnormal, v * L::set(P::kLift), v), e);
    e = e - L::select(subnormal, L::set(P::kLiftLog2), L::zero());
    const V log_m = log1p(m - L::set(1));
    const V finite = L::fma(e, L::set(P::kLn2High), L::fma(e, L::set(P::kLn2Low), log_m));
    const V positive = L::select(L::eq(v, L::set(P::kInfinity)), v, finite);
    return L::select(L::gt(v, L::zero()), positive,
                     L::select(L::eq(v, L::zero()), L::set(-P::kInfinity), L::set(P::kNaN)));
  }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
