// Sixteen doubles, the accumulators of every reduction over elements: the same sixteen on every ISA, spread over as
// many registers as they need. Loading widens exactly; storing rounds once.
//
//   zero(), set(s)              load(p), load(p, n)      from float or double; of n < 16 the missing ones are 0
//   + - *                       store(p, w), store(p, w, n)
//   weighted(a, b)              a b, 0 where a is 0
//   sum(w)                      binary tree: i and i + 8, then 4, 2, 1
#pragma once

#include <stdint.h>

#include "backend/backend.hpp"
#include "simd/lanes.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// One register of doubles from as many floats, and back.
struct Widen {
  using V = Lanes<double>::V;
#if defined(FUSEDRNN_ISA_AVX512)
  FR_INLINE static V load(const float* p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
  FR_INLINE static void store(float* p, V v) { _mm256_storeu_ps(p, _mm512_cvtpd_ps(v)); }
#elif defined(FUSEDRNN_ISA_AVX2)
  FR_INLINE static V load(const float* p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
  FR_INLINE static void store(float* p, V v) { _mm_storeu_ps(p, _mm256_cvtpd_ps(v)); }
#elif defined(FUSEDRNN_ISA_NEON)
  FR_INLINE static V load(const float* p) { return vcvt_f64_f32(vld1_f32(p)); }
  FR_INLINE static void store(float* p, V v) { vst1_f32(p, vcvt_f32_f64(v)); }
#else
  FR_INLINE static V load(const float* p) { return static_cast<double>(*p); }
  FR_INLINE static void store(float* p, V v) { *p = static_cast<float>(v); }
#endif
  FR_INLINE static V load(const double* p) { return Lanes<double>::load(p); }
  FR_INLINE static void store(double* p, V v) { Lanes<double>::store(p, v); }
};

struct Wide {
  using L = Lanes<double>;
  static constexpr int N = 16, P = N / L::N;
  L::V v[P];

  FR_INLINE static Wide set(double s) {
    Wide w;
    for (int i = 0; i < P; ++i) w.v[i] = L::set(s);
    return w;
  }
  FR_INLINE static Wide zero() { return set(0); }

  template <class T>
  FR_INLINE static Wide load(const T* p) {
    Wide w;
    for (int i = 0; i < P; ++i) w.v[i] = Widen::load(p + i * L::N);
    return w;
  }

  template <class T>
  FR_INLINE static Wide load(const T* p, int64_t n) {
    if (n >= N) return load(p);
    T whole[N];
    for (int i = 0; i < N; ++i) whole[i] = i < n ? p[i] : T(0);
    return load(whole);
  }

  template <class T>
  FR_INLINE static void store(T* p, const Wide& w) {
    for (int i = 0; i < P; ++i) Widen::store(p + i * L::N, w.v[i]);
  }

  template <class T>
  FR_INLINE static void store(T* p, const Wide& w, int64_t n) {
    if (n >= N) return store(p, w);
    T whole[N];
    store(whole, w);
    for (int i = 0; i < n; ++i) p[i] = whole[i];
  }

  // The first n, zeros after them.
  FR_INLINE static Wide first(const Wide& w, int64_t n) {
    double whole[N];
    store(whole, w);
    return load(whole, n);
  }

  // a b, 0 where a is 0, even if b is infinite or NaN.
  FR_INLINE static Wide weighted(const Wide& a, const Wide& b) {
    Wide w;
    for (int i = 0; i < P; ++i) w.v[i] = L::select(L::eq(a.v[i], L::zero()), L::zero(), a.v[i] * b.v[i]);
    return w;
  }

  FR_INLINE static double sum(const Wide& w) {
    Wide folded = w;
    for (int half = P / 2; half > 0; half /= 2)
      for (int i = 0; i < half; ++i) folded.v[i] = folded.v[i] + folded.v[i + half];
    double a[L::N];
    L::store(a, folded.v[0]);
    for (int half = L::N / 2; half > 0; half /= 2)
      for (int i = 0; i < half; ++i) a[i] = a[i] + a[i + half];
    return a[0];
  }

  FR_INLINE friend Wide operator+(const Wide& a, const Wide& b) {
    Wide w;
    for (int i = 0; i < P; ++i) w.v[i] = a.v[i] + b.v[i];
    return w;
  }
  FR_INLINE friend Wide operator-(const Wide& a, const Wide& b) {
    Wide w;
    for (int i = 0; i < P; ++i) w.v[i] = a.v[i] - b.v[i];
    return w;
  }
  FR_INLINE friend Wide operator*(const Wide& a, const Wide& b) {
    Wide w;
    for (int i = 0; i < P; ++i) w.v[i] = a.v[i] * b.v[i];
    return w;
  }
};

// Sum of term(i, n) over i = 0, 16, 32 .. < count: a Wide made of elements i to i + n, n = min(16, count - i); what it
// holds beyond them does not matter. In chunks, as backend.hpp says.
template <class Term>
FR_INLINE double reduce(int64_t count, const Term& term) {
  double total = 0;
  for (int64_t chunk = 0; chunk < count; chunk += kReduceChunk) {
    const int64_t end = count - chunk < kReduceChunk ? count : chunk + kReduceChunk;
    Wide sum = Wide::zero();
    int64_t i = chunk;
    for (; i + Wide::N <= end; i += Wide::N) sum = sum + term(i, Wide::N);
    if (i < end) sum = sum + Wide::first(term(i, end - i), end - i);
    total += Wide::sum(sum);
  }
  return total;
}

// Two of them in one pass: term(i, n, a, b) makes a of the first and b of the second.
template <class Term>
FR_INLINE void reduce_two(int64_t count, const Term& term, double& first, double& second) {
  first = second = 0;
  for (int64_t chunk = 0; chunk < count; chunk += kReduceChunk) {
    const int64_t end = count - chunk < kReduceChunk ? count : chunk + kReduceChunk;
    Wide a, b, sum_a = Wide::zero(), sum_b = Wide::zero();
    int64_t i = chunk;
    for (; i + Wide::N <= end; i += Wide::N) {
      term(i, Wide::N, a, b);
      sum_a = sum_a + a;
      sum_b = sum_b + b;
    }
    if (i < end) {
      term(i, end - i, a, b);
      sum_a = sum_a + Wide::first(a, end - i);
      sum_b = sum_b + Wide::first(b, end - i);
    }
    first += Wide::sum(sum_a);
    second += Wide::sum(sum_b);
  }
}

}  // namespace fusedrnn::FUSEDRNN_ISA
