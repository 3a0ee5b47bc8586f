// Lanes of AVX-512 (F, VL, DQ, BW: x86-64-v4): 16 floats or 8 doubles.
#pragma once

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
// GCC 12 warns of its own _mm512_undefined_ps (PR 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#else
#include <immintrin.h>
#endif

namespace fusedrnn::FUSEDRNN_ISA {

template <>
struct Lanes<float> {
  using V = __m512;
  using M = __mmask16;
  static constexpr int N = 16;

  FR_INLINE static V set(float s) { return _mm512_set1_ps(s); }
  FR_INLINE static V zero() { return _mm512_setzero_ps(); }
  FR_INLINE static V load(const float* p) { return _mm512_loadu_ps(p); }
  FR_INLINE static void store(float* p, V v) { _mm512_storeu_ps(p, v); }
  FR_INLINE static V load(const float* p, int n) { return _mm512_maskz_loadu_ps(first(n), p); }
  FR_INLINE static void store(float* p, V v, int n) { _mm512_mask_storeu_ps(p, first(n), v); }
  FR_INLINE static V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  FR_INLINE static V min(V a, V b) { return _mm512_min_ps(a, b); }
  FR_INLINE static V max(V a, V b) { return _mm512_max_ps(a, b); }
  FR_INLINE static M lt(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
  FR_INLINE static M gt(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
  FR_INLINE static M eq(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
  FR_INLINE static V select(M m, V a, V b) { return _mm512_mask_blend_ps(m, b, a); }
  FR_INLINE static V abs(V v) { return _mm512_andnot_ps(set(-0.0f), v); }
  FR_INLINE static V copysign(V v, V s) {  // bit by bit: sign ? s : v
    return from_bits(_mm512_ternarylogic_epi32(bits(set(-0.0f)), bits(s), bits(v), 0xca));
  }
  FR_INLINE static V round(V v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static constexpr float kShift = 0x1.8p23f + 127;
  FR_INLINE static V pow2(V t) { return from_bits(_mm512_slli_epi32(bits(t), 23)); }
  FR_INLINE static V split(V v, V& e) {
    const __m512i sqrt_half = _mm512_set1_epi32(0x3f3504f3);
    const __m512i j = _mm512_add_epi32(bits(v), _mm512_sub_epi32(_mm512_set1_epi32(0x3f800000), sqrt_half));
    // An integer below 2^23 may be or-ed into the bits of 2^23.
    e = from_bits(_mm512_or_si512(_mm512_srli_epi32(j, 23), _mm512_set1_epi32(0x4b000000))) - set(0x1p23f + 127);
    return from_bits(_mm512_add_epi32(_mm512_and_si512(j, _mm512_set1_epi32(0x007fffff)), sqrt_half));
  }
  FR_INLINE static V sqrt(V v) { return _mm512_sqrt_ps(v); }
  template <int S>
  FR_INLINE static void exchange(V& a, V& b) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __mmask16 with = _mm512_test_epi32_mask(lane, _mm512_set1_epi32(S));
    const __m512i second = _mm512_add_epi32(lane, _mm512_set1_epi32(16));
    const V low = _mm512_permutex2var_ps(a, _mm512_mask_sub_epi32(lane, with, second, _mm512_set1_epi32(S)), b);
    b = _mm512_permutex2var_ps(a, _mm512_mask_mov_epi32(_mm512_add_epi32(lane, _mm512_set1_epi32(S)), with, second), b);
    a = low;
  }

 private:
  FR_INLINE static __m512i bits(V v) { return _mm512_castps_si512(v); }
  FR_INLINE static V from_bits(__m512i b) { return _mm512_castsi512_ps(b); }
  FR_INLINE static __mmask16 first(int n) { return static_cast<__mmask16>(_bzhi_u32(0xffffu, n)); }
};

template <>
struct Lanes<double> {
  using V = __m512d;
  using M = __mmask8;
  static constexpr int N = 8;

  FR_INLINE static V set(double s) { return _mm512_set1_pd(s); }
  FR_INLINE static V zero() { return _mm512_setzero_pd(); }
  FR_INLINE static V load(const double* p) { return _mm512_loadu_pd(p); }
  FR_INLINE static void store(double* p, V v) { _mm512_storeu_pd(p, v); }
  FR_INLINE static V load(const double* p, int n) { return _mm512_maskz_loadu_pd(first(n), p); }
  FR_INLINE static void store(double* p, V v, int n) { _mm512_mask_storeu_pd(p, first(n), v); }
  FR_INLINE static V fma(V a, V b, V c) { return _mm512_fmadd_pd(a, b, c); }
  FR_INLINE static V min(V a, V b) { return _mm512_min_pd(a, b); }
  FR_INLINE static V max(V a, V b) { return _mm512_max_pd(a, b); }
  FR_INLINE static M lt(V a, V b) { return _mm512_cmp_pd_mask(a, b, _CMP_LT_OQ); }
  FR_INLINE static M gt(V a, V b) { return _mm512_cmp_pd_mask(a, b, _CMP_GT_OQ); }
  FR_INLINE static M eq(V a, V b) { return _mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ); }
  FR_INLINE static V select(M m, V a, V b) { return _mm512_mask_blend_pd(m, b, a); }
  FR_INLINE static V abs(V v) { return _mm512_andnot_pd(set(-0.0), v); }
  FR_INLINE static V copysign(V v, V s) {  // bit by bit: sign ? s : v
    return from_bits(_mm512_ternarylogic_epi64(bits(set(-0.0)), bits(s), bits(v), 0xca));
  }
  FR_INLINE static V round(V v) { return _mm512_roundscale_pd(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static constexpr double kShift = 0x1.8p52 + 1023;
  FR_INLINE static V pow2(V t) { return from_bits(_mm512_slli_epi64(bits(t), 52)); }
  FR_INLINE static V split(V v, V& e) {
    const __m512i sqrt_half = _mm512_set1_epi64(0x3fe6a09e667f3bcd);
    const __m512i j = _mm512_add_epi64(bits(v), _mm512_sub_epi64(_mm512_set1_epi64(0x3ff0000000000000), sqrt_half));
    // An integer below 2^52 may be or-ed into the bits of 2^52.
    e = from_bits(_mm512_or_si512(_mm512_srli_epi64(j, 52), _mm512_set1_epi64(0x4330000000000000))) -
        set(0x1p52 + 1023);
    return from_bits(_mm512_add_epi64(_mm512_and_si512(j, _mm512_set1_epi64(0x000fffffffffffff)), sqrt_half));
  }
  FR_INLINE static V sqrt(V v) { return _mm512_sqrt_pd(v); }
  template <int S>
  FR_INLINE static void exchange(V& a, V& b) {
    const __m512i lane = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    const __mmask8 with = _mm512_test_epi64_mask(lane, _mm512_set1_epi64(S));
    const __m512i second = _mm512_add_epi64(lane, _mm512_set1_epi64(8));
    const V low = _mm512_permutex2var_pd(a, _mm512_mask_sub_epi64(lane, with, second, _mm512_set1_epi64(S)), b);
    b = _mm512_permutex2var_pd(a, _mm512_mask_mov_epi64(_mm512_add_epi64(lane, _mm512_set1_epi64(S)), with, second), b);
    a = low;
  }

 private:
  FR_INLINE static __m512i bits(V v) { return _mm512_castpd_si512(v); }
  FR_INLINE static V from_bits(__m512i b) { return _mm512_castsi512_pd(b); }
  FR_INLINE static __mmask8 first(int n) { return static_cast<__mmask8>(_bzhi_u32(0xffu, n)); }
};

// Lanes of 64 bits, and the products of their low halves.
typedef uint64_t WordPairs __attribute__((vector_size(64)));
FR_INLINE WordPairs multiply_low_words(WordPairs a, WordPairs b) {
  return reinterpret_cast<WordPairs>(_mm512_mul_epu32(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
}

// to = a[0], b[0], a[1], b[1] ...
FR_INLINE void store_in_turn(uint32_t* to, WordPairs a, WordPairs b) {
  const __m512i x = reinterpret_cast<__m512i>(a), y = reinterpret_cast<__m512i>(b);
  const __m512i low = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11), high = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
  _mm512_storeu_si512(to, _mm512_permutex2var_epi64(x, low, y));
  _mm512_storeu_si512(to + 16, _mm512_permutex2var_epi64(x, high, y));
}

}  // namespace fusedrnn::FUSEDRNN_ISA
