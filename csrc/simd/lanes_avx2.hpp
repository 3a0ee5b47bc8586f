// Lanes of AVX2 + FMA: 8 floats or 4 doubles.
#pragma once

#include <immintrin.h>

namespace fusedrnn::FUSEDRNN_ISA {

template <>
struct Lanes<float> {
  using V = __m256;
  using M = __m256;  // all bits of an element set or clear
  static constexpr int N = 8;

  FR_INLINE static V set(float s) { return _mm256_set1_ps(s); }
  FR_INLINE static V zero() { return _mm256_setzero_ps(); }
  FR_INLINE static V load(const float* p) { return _mm256_loadu_ps(p); }
  FR_INLINE static void store(float* p, V v) { _mm256_storeu_ps(p, v); }
  FR_INLINE static V load(const float* p, int n) { return _mm256_maskload_ps(p, first(n)); }
  FR_INLINE static void store(float* p, V v, int n) { _mm256_maskstore_ps(p, first(n), v); }
  FR_INLINE static V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
  FR_INLINE static V min(V a, V b) { return _mm256_min_ps(a, b); }
  FR_INLINE static V max(V a, V b) { return _mm256_max_ps(a, b); }
  FR_INLINE static M lt(V a, V b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
  FR_INLINE static M gt(V a, V b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
  FR_INLINE static M eq(V a, V b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
  FR_INLINE static V select(M m, V a, V b) { return _mm256_blendv_ps(b, a, m); }
  FR_INLINE static V abs(V v) { return _mm256_andnot_ps(set(-0.0f), v); }
  FR_INLINE static V copysign(V v, V s) { return _mm256_or_ps(abs(v), _mm256_and_ps(set(-0.0f), s)); }
  FR_INLINE static V round(V v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  FR_INLINE static V scale2(V v, V k) { return v * power2(_mm256_cvtps_epi32(k)); }
  FR_INLINE static V scale2_wide(V v, V k) {
    const __m256i whole = _mm256_cvtps_epi32(k), half = _mm256_srai_epi32(whole, 1);
    const V scaled = v * power2(half) * power2(_mm256_sub_epi32(whole, half));
    return _mm256_blendv_ps(scaled, k, _mm256_cmp_ps(k, k, _CMP_UNORD_Q));
  }
  FR_INLINE static V sqrt(V v) { return _mm256_sqrt_ps(v); }

 private:
  FR_INLINE static __m256i first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  FR_INLINE static V power2(__m256i k) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(k, _mm256_set1_epi32(127)), 23));
  }
};

template <>
struct Lanes<double> {
  using V = __m256d;
  using M = __m256d;
  static constexpr int N = 4;

  FR_INLINE static V set(double s) { return _mm256_set1_pd(s); }
  FR_INLINE static V zero() { return _mm256_setzero_pd(); }
  FR_INLINE static V load(const double* p) { return _mm256_loadu_pd(p); }
  FR_INLINE static void store(double* p, V v) { _mm256_storeu_pd(p, v); }
  FR_INLINE static V load(const double* p, int n) { return _mm256_maskload_pd(p, first(n)); }
  FR_INLINE static void store(double* p, V v, int n) { _mm256_maskstore_pd(p, first(n), v); }
  FR_INLINE static V fma(V a, V b, V c) { return _mm256_fmadd_pd(a, b, c); }
  FR_INLINE static V min(V a, V b) { return _mm256_min_pd(a, b); }
  FR_INLINE static V max(V a, V b) { return _mm256_max_pd(a, b); }
  FR_INLINE static M lt(V a, V b) { return _mm256_cmp_pd(a, b, _CMP_LT_OQ); }
  FR_INLINE static M gt(V a, V b) { return _mm256_cmp_pd(a, b, _CMP_GT_OQ); }
  FR_INLINE static M eq(V a, V b) { return _mm256_cmp_pd(a, b, _CMP_EQ_OQ); }
  FR_INLINE static V select(M m, V a, V b) { return _mm256_blendv_pd(b, a, m); }
  FR_INLINE static V abs(V v) { return _mm256_andnot_pd(set(-0.0), v); }
  FR_INLINE static V copysign(V v, V s) { return _mm256_or_pd(abs(v), _mm256_and_pd(set(-0.0), s)); }
  FR_INLINE static V round(V v) { return _mm256_round_pd(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  FR_INLINE static V scale2(V v, V k) { return v * power2(_mm256_cvtpd_epi32(k)); }
  FR_INLINE static V scale2_wide(V v, V k) {
    const __m128i whole = _mm256_cvtpd_epi32(k), half = _mm_srai_epi32(whole, 1);
    const V scaled = v * power2(half) * power2(_mm_sub_epi32(whole, half));
    return _mm256_blendv_pd(scaled, k, _mm256_cmp_pd(k, k, _CMP_UNORD_Q));
  }
  FR_INLINE static V sqrt(V v) { return _mm256_sqrt_pd(v); }

 private:
  FR_INLINE static __m256i first(int n) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
  }
  FR_INLINE static V power2(__m128i k) {
    const __m256i wide = _mm256_cvtepi32_epi64(_mm_add_epi32(k, _mm_set1_epi32(1023)));
    return _mm256_castsi256_pd(_mm256_slli_epi64(wide, 52));
  }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
