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
  FR_INLINE static V scale2(V v, V k) { return v * power2(static_cast<int>(k)); }
  FR_INLINE static V scale2_wide(V v, V k) {
    if (!(k == k)) return k;
    const int whole = static_cast<int>(k), half = whole >> 1;
    return v * power2(half) * power2(whole - half);
  }
  FR_INLINE static V sqrt(V v) { return __builtin_sqrtf(v); }

 private:
  FR_INLINE static float power2(int k) {
    const unsigned bits = static_cast<unsigned>(k + 127) << 23;
    float s;
    __builtin_memcpy(&s, &bits, sizeof s);
    return s;
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
  FR_INLINE static V scale2(V v, V k) { return v * power2(static_cast<int>(k)); }
  FR_INLINE static V scale2_wide(V v, V k) {
    if (!(k == k)) return k;
    const int whole = static_cast<int>(k), half = whole >> 1;
    return v * power2(half) * power2(whole - half);
  }
  FR_INLINE static V sqrt(V v) { return __builtin_sqrt(v); }

 private:
  FR_INLINE static double power2(int k) {
    const unsigned long long bits = static_cast<unsigned long long>(k + 1023) << 52;
    double s;
    __builtin_memcpy(&s, &bits, sizeof s);
    return s;
  }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
