// The sum of the precisions bf16, bf16x3 and bf16x6: what one element of a product is, on every engine.
//
// An operand is the sum of P parts (P = 1, 2, 3), each a bfloat16 (simd/bf16.hpp: split_bf16). Along k it is padded
// with zeros to whole blocks of 32. With C the running sum in float32, from +0 or from what a gradient holds:
//
//   for each block of 32, in order
//     for each part j of B, for each part i of A with i + j < P             P = 2: hi hi, lo hi, hi lo
//       even = odd = +0
//       for k = 0, 1 .. 15:  even = fma(A_i[2 k], B_j[2 k], even),  odd = fma(A_i[2 k + 1], B_j[2 k + 1], odd)
//       C = C + (even + odd)
//
// Every operation rounds once, to nearest with ties to even, takes subnormal operands as zero and makes subnormal
// results zero; x86 judges that after rounding, Arm before. It is what the instruction TDPBF16PS of AMX does.
#pragma once

#include <stdint.h>

#include "simd/lanes.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

constexpr int64_t kPairBlock = 32;

constexpr int64_t whole_blocks(int64_t K) { return (K + kPairBlock - 1) / kPairBlock * kPairBlock; }

// product(i, j) for every pair of parts that is multiplied, in order.
template <class Product>
FR_INLINE void for_products(int parts, const Product& product) {
#pragma GCC unroll 1
  for (int j = 0; j < parts; ++j)
#pragma GCC unroll 1
    for (int i = 0; i < parts - j; ++i) product(i, j);
}

// How many (step, row) pairs make a chunk of steps (engine.hpp), `gradient` being the elements of a recurrent weight's.
// Where that is larger than the second-level cache, reading and writing it once a chunk takes longer than the pairs of
// more steps do on their way back from the third level.
constexpr int64_t bf16_chunk_rows(int64_t gradient) {
  constexpr int64_t cache = (4 << 20) / sizeof(float);
  return gradient > cache ? 1024 : 256;
}

}  // namespace fusedrnn::FUSEDRNN_ISA
