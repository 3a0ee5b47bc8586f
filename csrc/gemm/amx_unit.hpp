// The tile registers of AMX: eight of 16 rows of 64 bytes, as engine_amx.hpp uses them. Another struct of this
// interface may stand in for it, as tests/native does, so that machines without the instructions test all that is
// around them.
//
// Tiles 0 to 3 are of C, and those from 4 on of A, then of B.
//
//   Region               a thread may use tiles while it lives; C and A have 16 rows then
//   configure(rows, a)   from now on C and the first `a` tiles behind have so many rows; what tiles held is gone
//   zero<T>, load<T>(from, bytes between rows), store<T>(to, bytes between rows)
//   multiply<C, A, B>    C += A B as bf16_sum.hpp has it for one block and one pair of parts: A has 32 bfloat16 a row,
//                        row k of B the steps 2 k and 2 k + 1 of 16 columns side by side
//   round(low, high)     32 floats as bfloat16, `low` first (simd/bf16.hpp: round_bf16)
//
// Assembly rather than the compilers' intrinsics, which want literals for tiles, and of which GCC 12's do not say what
// memory they read. "memory" keeps the compiler from moving stores to operands behind loads of tiles, and loads of
// results before stores of tiles. The assembly names no tile as changed: no code of the compiler's own uses one.
#pragma once

#include <stdint.h>

#include "simd/lanes.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

struct AmxUnit {
  class Region {
   public:
    FR_INLINE Region() { configure(16, 2); }
    FR_INLINE ~Region() { __asm__ volatile("tilerelease" : : : "memory"); }
  };

  FR_INLINE static void configure(int rows, int of_a) {
    Configuration c = {};
    c.palette = 1;
    for (int t = 0; t < 8; ++t) {
      c.rows[t] = static_cast<uint8_t>(t < 4 + of_a ? rows : 16);
      c.bytes_of_row[t] = 64;
    }
    __asm__ volatile("ldtilecfg %0" : : "m"(c) : "memory");
  }

  template <int T>
  FR_INLINE static void zero() {
    __asm__ volatile("tilezero %%tmm%c0" : : "i"(T) : "memory");
  }
  template <int T>
  FR_INLINE static void load(const void* from, int64_t bytes) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(bytes), "i"(T) : "memory");
  }
  template <int T>
  FR_INLINE static void store(void* to, int64_t bytes) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(bytes), "i"(T) : "memory");
  }
  template <int C, int A, int B>
  FR_INLINE static void multiply() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B) : "memory");
  }

  FR_INLINE static __m512i round(__m512 low, __m512 high) {
    const auto both = _mm512_cvtne2ps_pbh(high, low);
    __m512i bits;
    __builtin_memcpy(&bits, &both, sizeof bits);
    return bits;
  }

 private:
  struct alignas(64) Configuration {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes_of_row[16];
    uint8_t rows[16];
  };
  static_assert(sizeof(Configuration) == 64, "the operand of ldtilecfg");
};

}  // namespace fusedrnn::FUSEDRNN_ISA
