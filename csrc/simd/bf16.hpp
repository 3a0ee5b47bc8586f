// bfloat16, as the instructions that multiply it round to it, and a float as the sum of a few of them.
#pragma once

#include <stdint.h>

#include "simd/lanes.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// v rounded to 8 digits, to nearest with ties to even; what is subnormal is zero of its sign before anything else, and
// what is not a number becomes a quiet one. The result is a float whose low 16 bits are zero.
FR_INLINE typename Lanes<float>::V round_bf16(typename Lanes<float>::V v) {
  typedef uint32_t Words __attribute__((vector_size(sizeof v)));
  Words b;
  __builtin_memcpy(&b, &v, sizeof b);
  const Words magnitude = b & 0x7fffffffu, odd = (b >> 16) & 1u;
  const Words rounded = b + 0x7fffu + odd, quiet = b | 0x00400000u, sign = b & 0x80000000u;
  // Comparisons of vectors give lanes of ones or zeros.
  const Words is_nan = reinterpret_cast<Words>(magnitude > 0x7f800000u);
  const Words is_tiny = reinterpret_cast<Words>(magnitude < 0x00800000u);
  b = (is_nan & quiet) | (is_tiny & sign) | (~(is_nan | is_tiny) & rounded);
  b &= 0xffff0000u;
  __builtin_memcpy(&v, &b, sizeof v);
  return v;
}

// v as P parts: the first is v rounded, each later one the rest that those before it leave, rounded. The rests are
// exact. What has no finite first part has no rest: NaN, or an infinity.
template <int P>
FR_INLINE void split_bf16(typename Lanes<float>::V v, typename Lanes<float>::V (&part)[P]) {
#pragma GCC unroll 3
  for (int p = 0; p < P; ++p) {
    part[p] = round_bf16(v);
    if (p + 1 < P) v = v - part[p];
  }
}

constexpr int kMostParts = 3;

template <int Count>
struct Constant {
  static constexpr int count = Count;
};
// run(Constant<count>()), 1 <= count <= Most: for loops that a compiler unrolls when it knows how long they are.
template <int Most, class Run>
FR_INLINE void with_count(int count, const Run& run) {
  if constexpr (Most > 1)
    if (count < Most) return with_count<Most - 1>(count, run);
  run(Constant<Most>());
}

}  // namespace fusedrnn::FUSEDRNN_ISA
