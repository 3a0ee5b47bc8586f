// What gemm/bf16_sum.hpp defines, in scalar code that no control register changes: rounding, splitting, and one block
// of a sum as TDPBF16PS computes it. The first processor with that instruction on which it was tried gave these bits
// for 1.6 million elements, whatever the kind of their operands (docs/numerics.md).
#pragma once

#include <stdint.h>

namespace tile_sum {
namespace {

inline uint32_t bits_of(float x) {
  uint32_t b;
  __builtin_memcpy(&b, &x, sizeof b);
  return b;
}
inline float float_of(uint32_t b) {
  float x;
  __builtin_memcpy(&x, &b, sizeof x);
  return x;
}
inline float widen(uint16_t x) { return float_of(static_cast<uint32_t>(x) << 16); }

// To nearest, ties to even; subnormal numbers are zero first.
inline uint16_t round(float x) {
  const uint32_t b = bits_of(x);
  if ((b & 0x7f800000u) == 0) return static_cast<uint16_t>(b >> 16 & 0x8000u);
  if ((b & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(b >> 16 | 0x40u);
  return static_cast<uint16_t>((b + 0x7fffu + (b >> 16 & 1u)) >> 16);
}

inline void split(float x, int parts, uint16_t* part) {
  for (int p = 0; p < parts; ++p) {
    part[p] = round(x);
    x = x - widen(part[p]);
  }
}

inline float as_zero(float x) { return (bits_of(x) & 0x7f800000u) == 0 ? float_of(bits_of(x) & 0x80000000u) : x; }

// a b + c rounded once, subnormal numbers zero going in and coming out. What comes out is judged after rounding to 24
// digits with exponents as small as may be: what rounds up to the smallest normal number stays.
inline float fma(float a, float b, float c) {
  a = as_zero(a), b = as_zero(b), c = as_zero(c);
  const float r = __builtin_fmaf(a, b, c);
  const uint32_t magnitude = bits_of(r) & 0x7fffffffu;
  const float zero = float_of(bits_of(r) & 0x80000000u);
  if (magnitude < 0x00800000u) return zero;
  if (magnitude == 0x00800000u) {
    // The smallest normal: was it reached by the spacing of subnormal numbers alone? Scaled up nothing is rounded
    // twice.
    const float scaled = __builtin_fmaf(a * 0x1p63f, b * 0x1p1f, c * 0x1p64f);
    if (__builtin_fabsf(scaled) < 0x1p-62f) return zero;
  }
  return r;
}
inline float add(float a, float b) { return fma(a, 1.0f, b); }

// c + the sum over a block of 32: a(k) and b(k) are bfloat16.
template <class A, class B>
float add_block(float c, const A& a, const B& b) {
  float even = 0, odd = 0;
  for (int k = 0; k < 32; k += 2) {
    even = fma(widen(a(k)), widen(b(k)), even);
    odd = fma(widen(a(k + 1)), widen(b(k + 1)), odd);
  }
  return add(as_zero(c), add(even, odd));
}

// c + the sum over k of a(k) b(k), floats split into so many parts.
template <class A, class B>
float product(float c, int64_t K, int parts, const A& a, const B& b) {
  for (int64_t block = 0; block < K; block += 32) {
    uint16_t left[32][3] = {}, right[32][3] = {};
    for (int64_t k = block; k < K && k < block + 32; ++k) {
      split(a(k), parts, left[k - block]);
      split(b(k), parts, right[k - block]);
    }
    for (int j = 0; j < parts; ++j)
      for (int i = 0; i < parts - j; ++i)
        c = add_block(c, [&](int k) { return left[k][i]; }, [&](int k) { return right[k][j]; });
  }
  return c;
}

}  // namespace
}  // namespace tile_sum
