// exp, sigmoid and tanh over lanes, float and double. Every step is one IEEE operation or one fma, in an order that is
// the same on every ISA, so all give the same bits; no approximate reciprocals. NaN in gives NaN out, because min and
// max return their second argument when either is NaN. Bounds, found by tests/native/test_math.cpp and asserted there,
// in ulp of the result (float over all inputs, double over dense samples):
//
//            exp     sigmoid   tanh
//   float    0.9     2.05      1.25
//   double   0.9     2.05      2.6
//
// How: x = k ln 2 + r with |r| <= ln 2 / 2, e^x = 2^k (1 + r u(r)), where u is a polynomial fitted to (e^r - 1) / r.
// k is rounded by adding a number so large that its last bit is worth one (Lanes::pow2 turns the sum into 2^k), and
// x - k ln 2 is exact but for the last fma, ln 2 being two numbers. Coefficients are near-minimax for the relative
// error of e^r, derived by minimax.py beside this file.
#pragma once

#include "simd/horner.hpp"
#include "simd/quotient.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class T>
struct ExpParts;

template <>
struct ExpParts<float> {
  using L = Lanes<float>;
  static constexpr float kLog2E = 0x1.715476p+0f;
  static constexpr float kLn2High = 0x1.62e43p-1f, kLn2Low = -0x1.05c61p-29f;
  static constexpr float kExpLow = -104.0f, kExpHigh = 89.0f;          // beyond: 0 and infinity
  static constexpr float kSigmoidLow = -104.0f, kSigmoidHigh = 40.0f;  // beyond: 0 and 1
  static constexpr float kSigmoidOne = 0x1p-60f;
  static constexpr int kSigmoidShift = 60;
  static constexpr float kTanhHigh = 10.0f;  // beyond: 1

  // (e^(S r) - 1 - S r) / r^2
  template <int S>
  FR_INLINE static L::V tail(L::V r) {
    constexpr float s = S, s2 = s * s, s3 = s2 * s, s4 = s3 * s, s5 = s4 * s, s6 = s5 * s;
    return horner<L>(r, s6 * 0x1.6a514cp-10f, s5 * 0x1.12397cp-7f, s4 * 0x1.5558acp-5f, s3 * 0x1.555492p-3f,
                     s2 * 0x1.fffffcp-2f);
  }
};

template <>
struct ExpParts<double> {
  using L = Lanes<double>;
  static constexpr double kLog2E = 0x1.71547652b82fep+0;
  static constexpr double kLn2High = 0x1.62e42fefa39efp-1, kLn2Low = 0x1.abc9e3b39803fp-56;
  static constexpr double kExpLow = -746.0, kExpHigh = 710.0;
  static constexpr double kSigmoidLow = -746.0, kSigmoidHigh = 600.0;
  static constexpr double kSigmoidOne = 0x1p-54;
  static constexpr int kSigmoidShift = 54;
  static constexpr double kTanhHigh = 20.0;

  template <int S>
  FR_INLINE static L::V tail(L::V r) {
    constexpr double s = S, s2 = s * s, s3 = s2 * s, s4 = s3 * s, s5 = s4 * s, s6 = s5 * s, s7 = s6 * s, s8 = s7 * s,
                     s9 = s8 * s, s10 = s9 * s, s11 = s10 * s;
    return horner<L>(r, s11 * 0x1.adb9af0dde4aep-26, s10 * 0x1.28adeb0f769d3p-22, s9 * 0x1.71deff2fb28f5p-19,
                     s8 * 0x1.a01999717a255p-16, s7 * 0x1.a01a013c33d48p-13, s6 * 0x1.6c16c18470d77p-10,
                     s5 * 0x1.11111111243e1p-7, s4 * 0x1.55555555506d1p-5, s3 * 0x1.5555555555509p-3,
                     s2 * 0x1.000000000000ap-1);
  }
};

template <class T>
struct Exp : ExpParts<T> {
  using P = ExpParts<T>;
  using L = Lanes<T>;
  using V = typename L::V;

  // S x = k ln 2 + S r. `shifted` is k + offset + Lanes::kShift, what pow2 wants for 2^(k + offset).
  struct Reduced {
    V r, shifted, k;
  };
  template <int S, int Offset>
  FR_INLINE static Reduced reduce(V x) {
    constexpr T shift = L::kShift + Offset;
    Reduced p;
    p.shifted = L::fma(x, L::set(S * P::kLog2E), L::set(shift));
    p.k = p.shifted - L::set(shift);
    p.r = L::fma(p.k, L::set(-P::kLn2Low / S), L::fma(p.k, L::set(-P::kLn2High / S), x));
    return p;
  }

  // (e^(S r) - 1) / r
  template <int S>
  FR_INLINE static V slope(V r) {
    return L::fma(P::template tail<S>(r), r, L::set(S));
  }

  // one * (1 + e^(S x)), with 2^(k + Offset) = one 2^k: a rounding less than through e^(S r).
  template <int S, int Offset>
  FR_INLINE static V one_plus_exp(V x, T one) {
    const Reduced p = reduce<S, Offset>(x);
    const V scale = L::pow2(p.shifted);
    return L::fma(slope<S>(p.r) * p.r, scale, L::set(one)) + scale;
  }

  // e^x over the whole range, subnormal results included (rounded once more).
  FR_INLINE static V exp(V x) {
    x = L::max(L::set(P::kExpLow), L::min(L::set(P::kExpHigh), x));
    const Reduced p = reduce<1, 0>(x);
    const V half = L::round(p.k * L::set(T(0.5)));  // 2^k alone may be out of range
    return L::fma(slope<1>(p.r), p.r, L::set(1)) * L::pow2(half + L::set(L::kShift)) *
           L::pow2(p.k - half + L::set(L::kShift));
  }

  // 1 / (1 + e^-x), as c / (c + c e^-x) with c so small that c e^-x and, in float, its reciprocal are normal wherever
  // the result is neither 0 nor 1.
  FR_INLINE static V sigmoid(V x) {
    x = L::max(L::set(P::kSigmoidLow), L::min(L::set(P::kSigmoidHigh), x));
    return Quotient<T>::of(L::set(P::kSigmoidOne), one_plus_exp<-1, -P::kSigmoidShift>(x, P::kSigmoidOne));
  }

  FR_INLINE static V tanh(V x);
};

// 1 - 2 / (1 + e^2|x|), which is inaccurate near 0; there an odd polynomial.
template <>
FR_INLINE Exp<float>::V Exp<float>::tanh(V x) {
  const V z = L::abs(x);
  const V large = L::set(1) - Quotient<float>::of(L::set(2), one_plus_exp<2, 0>(L::min(L::set(kTanhHigh), z), 1));
  const V z2 = z * z;
  const V small = L::fma(
      horner<L>(z2, -0x1.756d14p-8f, 0x1.520a3ap-6f, -0x1.b83792p-5f, 0x1.1106fep-3f, -0x1.555532p-2f), z2 * z, z);
  return L::copysign(L::select(L::gt(z, L::set(0.625f)), large, small), x);
}

// m / (m + 1) with m = (e^2|x| - 1) / 2 = 2^k (r + r^2 tail / 2) + (2^k - 1) / 2: one formula for the whole range.
template <>
FR_INLINE Exp<double>::V Exp<double>::tanh(V x) {
  const Reduced p = reduce<2, 0>(L::min(L::set(kTanhHigh), L::abs(x)));
  const V half = L::set(0.5);
  const V scale = L::pow2(p.shifted);
  const V m = L::fma(L::fma(p.r * p.r, half * tail<2>(p.r), p.r), scale, L::fma(half, scale, -half));
  return L::copysign(m / (m + L::set(1)), x);
}

}  // namespace fusedrnn::FUSEDRNN_ISA
