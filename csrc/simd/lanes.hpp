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
//   min(a, b), max(a, b)   b when either is NaN (x86's rule, on every ISA)
//   lt(a, b), gt, eq       M;  select(m, a, b)         m ? a : b, by bits
//   abs(v)                 clears the sign;            round(v)   nearest, ties to even
//   scale2(v, k)           v * 2^k for integral-valued k with the result normal, exact
//   sqrt(v)                correctly rounded
#pragma once

#if defined(FUSEDRNN_ISA_AVX512)
#include "lanes_avx512.hpp"
#elif defined(FUSEDRNN_ISA_AVX2)
#include "lanes_avx2.hpp"
#elif defined(FUSEDRNN_ISA_NEON)
#include "lanes_neon.hpp"
#else
#include "lanes_scalar.hpp"
#endif
