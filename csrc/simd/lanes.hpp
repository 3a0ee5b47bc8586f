// Lanes: the registers a kernel computes with. `Lanes<float>` and `Lanes<double>` of the ISA being compiled, all with
// the interface below, so that a kernel is written once. Everything lives in a namespace per ISA (FUSEDRNN_ISA), uses
// no STL and is always inlined: no symbol of one ISA can be picked by the linker for another.
//
//   Lanes<T>::N            elements in a register (1 for scalar)
//   Lanes<T>::V            the register: + - * / and unary - work on it
//   Lanes<T>::M            a mask of N booleans, what comparisons return
//   set(s)                 all elements s;             zero()
//   load(p), store(p, v)   N elements, any alignment
//   load(p, n), store(p, v, n)   the first n of N (0 <= n <= N); missing ones load as 0, are not touched in memory
//   fma(a, b, c)           a * b + c, one rounding, on every ISA (fmaf / fma where the machine has no instruction)
//   min(a, b), max(a, b)   b when either is NaN or both are zero (x86's rule, on every ISA)
//   lt(a, b), gt, eq       M, false where either is NaN;  select(m, a, b)   m ? a : b, by bits
//   abs(v)                 clears the sign;            copysign(v, s)   magnitude of v, sign of s
//   round(v)               nearest, ties to even
//   kShift, pow2(t)        2^k, exact, from t = k + kShift with k integral and the result normal; kShift is so
//                          large that adding it to any |v| < 2^21 (2^50) rounds v to an integer
//   split(v, e)            m in [sqrt(1/2), sqrt(2)) and integral e with v = m * 2^e, exact, for positive normal v
//   sqrt(v)                correctly rounded
//   exchange<S>(a, b)      a[l] and b[l - S] change places, for every element l with bit S set (S = 1, 2, 4 .. N / 2)
//
// The caller's floating-point environment must be the default one (round to nearest, subnormals kept).
#pragma once

#if !defined(FUSEDRNN_ISA)
#error "FUSEDRNN_ISA must name the namespace of the ISA being compiled: scalar, avx2, avx512, amx or neon"
#endif

#if defined(__CUDACC__)
#define FR_INLINE __host__ __device__ __forceinline__
#else
#define FR_INLINE inline __attribute__((always_inline))
#endif

namespace fusedrnn::FUSEDRNN_ISA {

template <class T>
struct Lanes;

}  // namespace fusedrnn::FUSEDRNN_ISA

#if defined(FUSEDRNN_ISA_AVX512)
#include "simd/lanes_avx512.hpp"
#elif defined(FUSEDRNN_ISA_AVX2)
#include "simd/lanes_avx2.hpp"
#elif defined(FUSEDRNN_ISA_NEON)
#include "simd/lanes_neon.hpp"
#elif defined(FUSEDRNN_ISA_SCALAR)
#include "simd/lanes_scalar.hpp"
#else
#error "one of FUSEDRNN_ISA_SCALAR, _AVX2, _AVX512, _NEON must be defined"
#endif
