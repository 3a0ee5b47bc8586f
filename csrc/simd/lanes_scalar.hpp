// Lanes of one element: plain C++ for any machine. Right, not fast: `fma` may be a library call.
#pragma once

namespace fusedrnn::FUSEDRNN_ISA {

template <>
struct Lanes<float> {
  using V = float;
  using M = bool;
  static constexpr int N = 1;

  FR_INLINE static V set(float s) { return s; }
  FR_INLINE static V zero() { return 0.0f; }
  FR_INLINE static V load(const float* p) { return *p; }
  FR_INLINE static void store(float* p, V v) { *p = v; }
  FR_INLINE static V load(const float* p, int n) { return n > 0 ? *p : 0.0f; }
  FR_INLINE static void store(float* p, V v, int n) {
    if (n > 0) *p = v;
  }
  FR_INLINE static V fma(V a, V b, V c) { return __builtin_fmaf(a, b, c); }
  FR_INLINE static V min(V a, V b) { return a < b ? a : b; }
  FR_INLINE static V max(V a, V b) { return a > b ? a : b; }
  FR_INLINE static M lt(V a, V b) { return a < b; }
  FR_INLINE static M gt(V a, V b) { return a > b; }
  FR_INLINE static M eq(V a, V b) { return a == b; }
  FR_INLINE static V select(M m, V a, V b) { return m ? a : b; }
  FR_INLINE static V abs(V v) { return __builtin_fabsf(v); }
  FR_INLINE static V copysign(V v, V s) { return __builtin_copysignf(v, s); }
  FR_INLINE static V round(V v) { return __builtin_rintf(v); }
  static constexpr float kShift = 0x1.8p23f + 127;
  FR_INLINE static V pow2(V t) { return from_bits(bits(t) << 23); }
  FR_INLINE static V split(V v, V& e) {
    const unsigned j = bits(v) + (kOne - kSqrtHalf);
    e = from_bits((j >> 23) | kInteger) - (0x1p23f + 127);
    return from_bits((j & kFraction) + kSqrtHalf);
  }
  FR_INLINE static V sqrt(V v) { return __builtin_sqrtf(v); }

 private:
  static constexpr unsigned kOne = 0x3f800000u;       // bits of 1
  static constexpr unsigned kSqrtHalf = 0x3f3504f3u;  // bits of sqrt(1/2)
  static constexpr unsigned kInteger = 0x4b000000u;   // of 2^23: an integer below it may be or-ed in
  static constexpr unsigned kFraction = 0x007fffffu;
  FR_INLINE static unsigned bits(float v) {
    unsigned b;
    __builtin_memcpy(&b, &v, sizeof b);
    return b;
  }
  FR_INLINE static float from_bits(unsigned b) {
    float v;
    __builtin_memcpy(&v, &b, sizeof v);
    return v;
  }
};

template <>
struct Lanes<double> {
  using V = double;
  using M = bool;
  static constexpr int N = 1;

  FR_INLINE static V set(double s) { return s; }
  FR_INLINE static V zero() { return 0.0; }
  FR_INLINE static V load(const double* p) { return *p; }
  FR_INLINE static void store(double* p, V v) { *p = v; }
  FR_INLINE static V load(const double* p, int n) { return n > 0 ? *p : 0.0; }
  FR_INLINE static void store(double* p, V v, int n) {
    if (n > 0) *p = v;
  }
  FR_INLINE static V fma(V a, V b, V c) { return __builtin_fma(a, b, c); }
  FR_INLINE static V min(V a, V b) { return a < b ? a : b; }
  FR_INLINE static V max(V a, V b) { return a > b ? a : b; }
  FR_INLINE static M lt(V a, V b) { return a < b; }
  FR_INLINE static M gt(V a, V b) { return a > b; }
  FR_INLINE static M eq(V a, V b) { return a == b; }
  FR_INLINE static V select(M m, V a, V b) { return m ? a : b; }
  FR_INLINE static V abs(V v) { return __builtin_fabs(v); }
  FR_INLINE static V copysign(V v, V s) { return __builtin_copysign(v, s); }
  FR_INLINE static V round(V v) { return __builtin_rint(v); }
  static constexpr double kShift = 0x1.8p52 + 1023;
  FR_INLINE static V pow2(V t) { return from_bits(bits(t) << 52); }
  FR_INLINE static V split(V v, V& e) {
    const unsigned long long j = bits(v) + (kOne - kSqrtHalf);
    e = from_bits((j >> 52) | kInteger) - (0x1p52 + 1023);
    return from_bits((j & kFraction) + kSqrtHalf);
  }
  FR_INLINE static V sqrt(V v) { return __builtin_sqrt(v); }

 private:
  static constexpr unsigned long long kOne = 0x3ff0000000000000u;       // bits of 1
  static constexpr unsigned long long kSqrtHalf = 0x3fe6a09e667f3bcdu;  // bits of sqrt(1/2)
  static constexpr unsigned long long kInteger = 0x4330000000000000u;   // of 2^52: an integer below it may be or-ed in
  static constexpr unsigned long long kFraction = 0x000fffffffffffffu;
  FR_INLINE static unsigned long long bits(double v) {
    unsigned long long b;
    __builtin_memcpy(&b, &v, sizeof b);
    return b;
  }
  FR_INLINE static double from_bits(unsigned long long b) {
    double v;
    __builtin_memcpy(&v, &b, sizeof v);
    return v;
  }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
