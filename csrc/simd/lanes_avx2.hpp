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
  static constexpr float kShift = 0x1.8p23f + 127;
  FR_INLINE static V pow2(V t) { return from_bits(_mm256_slli_epi32(bits(t), 23)); }
  FR_INLINE static V split(V v, V& e) {
    const __m256i sqrt_half = _mm256_set1_epi32(0x3f3504f3);
    const __m256i j = _mm256_add_epi32(bits(v), _mm256_sub_epi32(_mm256_set1_epi32(0x3f800000), sqrt_half));
    // An integer below 2^23 may be or-ed into the bits of 2^23.
    e = from_bits(_mm256_or_si256(_mm256_srli_epi32(j, 23), _mm256_set1_epi32(0x4b000000))) - set(0x1p23f + 127);
    return from_bits(_mm256_add_epi32(_mm256_and_si256(j, _mm256_set1_epi32(0x007fffff)), sqrt_half));
  }
  FR_INLINE static V sqrt(V v) { return _mm256_sqrt_ps(v); }
  template <int S>
  FR_INLINE static void exchange(V& a, V& b) {
    constexpr int with = S == 1 ? 0xAA : S == 2 ? 0xCC : 0xF0;
    const V low = _mm256_blend_ps(a, swapped<S>(b), with);
    b = _mm256_blend_ps(swapped<S>(a), b, with);
    a = low;
  }

 private:
  template <int S>
  FR_INLINE static V swapped(V v) {  // v[l ^ S]
    return S == 1 ? _mm256_permute_ps(v, 0xB1) : S == 2 ? _mm256_permute_ps(v, 0x4E) : _mm256_permute2f128_ps(v, v, 1);
  }
  FR_INLINE static __m256i bits(V v) { return _mm256_castps_si256(v); }
  FR_INLINE static V from_bits(__m256i b) { return _mm256_castsi256_ps(b); }
  FR_INLINE static __m256i first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
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
  static constexpr double kShift = 0x1.8p52 + 1023;
  FR_INLINE static V pow2(V t) { return from_bits(_mm256_slli_epi64(bits(t), 52)); }
  FR_INLINE static V split(V v, V& e) {
    const __m256i sqrt_half = _mm256_set1_epi64x(0x3fe6a09e667f3bcd);
    const __m256i j = _mm256_add_epi64(bits(v), _mm256_sub_epi64(_mm256_set1_epi64x(0x3ff0000000000000), sqrt_half));
    // An integer below 2^52 may be or-ed into the bits of 2^52.
    e = from_bits(_mm256_or_si256(_mm256_srli_epi64(j, 52), _mm256_set1_epi64x(0x4330000000000000))) -
        set(0x1p52 + 1023);
    return from_bits(_mm256_add_epi64(_mm256_and_si256(j, _mm256_set1_epi64x(0x000fffffffffffff)), sqrt_half));
  }
  FR_INLINE static V sqrt(V v) { return _mm256_sqrt_pd(v); }
  template <int S>
  FR_INLINE static void exchange(V& a, V& b) {
    constexpr int with = S == 1 ? 0xA : 0xC;
    const V low = _mm256_blend_pd(a, swapped<S>(b), with);
    b = _mm256_blend_pd(swapped<S>(a), b, with);
    a = low;
  }

 private:
  template <int S>
  FR_INLINE static V swapped(V v) {  // v[l ^ S]
    return S == 1 ? _mm256_permute_pd(v, 5) : _mm256_permute2f128_pd(v, v, 1);
  }
  FR_INLINE static __m256i bits(V v) { return _mm256_castpd_si256(v); }
  FR_INLINE static V from_bits(__m256i b) { return _mm256_castsi256_pd(b); }
  FR_INLINE static __m256i first(int n) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
  }
};

// Lanes of 64 bits, and the products of their low halves.
typedef uint64_t WordPairs __attribute__((vector_size(32)));
FR_INLINE WordPairs multiply_low_words(WordPairs a, WordPairs b) {
  return reinterpret_cast<WordPairs>(_mm256_mul_epu32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
}

// to = a[0], b[0], a[1], b[1] ...
FR_INLINE void store_in_turn(uint32_t* to, WordPairs a, WordPairs b) {
  const __m256i x = reinterpret_cast<__m256i>(a), y = reinterpret_cast<__m256i>(b);
  const __m256i even = _mm256_unpacklo_epi64(x, y), odd = _mm256_unpackhi_epi64(x, y);  // 0 and 2, 1 and 3
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_permute2x128_si256(even, odd, 0x20));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 8), _mm256_permute2x128_si256(even, odd, 0x31));
}

}  // namespace fusedrnn::FUSEDRNN_ISA
