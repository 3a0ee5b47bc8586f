// The tile registers of AMX in scalar code: gemm/amx_unit.hpp's interface, for machines without them. With the bits of
// the instructions, by integer arithmetic where denormal numbers count, so that no control register matters.
#pragma once

#include <stdint.h>

#include "simd/bf16.hpp"
#include "tile_sum.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// What a thread has; misuse, which would end in SIGILL or wrong results, is counted for all.
inline thread_local int tile_regions = 0, tile_rows_of[8] = {};
inline thread_local unsigned char tiles[8][16][64];
inline int32_t tile_misuses = 0;

struct EmulatedUnit {
  class Region {
   public:
    Region() {
      ++tile_regions;
      configure(16, 2);
    }
    ~Region() { --tile_regions; }
  };

  static void configure(int rows, int of_a) {
    require(rows >= 1 && rows <= 16 && of_a >= 1 && of_a < 4);
    __builtin_memset(tiles, 0xff, sizeof tiles);  // NaN
    for (int t = 0; t < 8; ++t) tile_rows_of[t] = t < 4 + of_a ? rows : 16;
  }
  template <int T>
  static void zero() {
    require(true);
    __builtin_memset(tiles[T], 0, sizeof tiles[T]);
  }
  template <int T>
  static void load(const void* from, int64_t bytes) {
    require(true);
    for (int i = 0; i < tile_rows_of[T]; ++i)
      __builtin_memcpy(tiles[T][i], static_cast<const char*>(from) + i * bytes, 64);
  }
  template <int T>
  static void store(void* to, int64_t bytes) {
    require(true);
    for (int i = 0; i < tile_rows_of[T]; ++i) __builtin_memcpy(static_cast<char*>(to) + i * bytes, tiles[T][i], 64);
  }
  template <int C, int A, int B>
  static void multiply() {
    require(C < 4 && A >= 4 && B > A && tile_rows_of[C] == tile_rows_of[A] && tile_rows_of[B] == 16);
    uint16_t a[32], b[16][32];
    __builtin_memcpy(b, tiles[B], sizeof b);
    for (int m = 0; m < tile_rows_of[C]; ++m) {
      float sums[16];
      __builtin_memcpy(a, tiles[A][m], sizeof a);
      __builtin_memcpy(sums, tiles[C][m], sizeof sums);
      for (int n = 0; n < 16; ++n)
        sums[n] =
            tile_sum::add_block(sums[n], [&](int k) { return a[k]; }, [&](int k) { return b[k / 2][2 * n + k % 2]; });
      __builtin_memcpy(tiles[C][m], sums, sizeof sums);
    }
  }
  static __m512i round(__m512 low, __m512 high) {
    const __m512i a = _mm512_castps_si512(round_bf16(low)), b = _mm512_castps_si512(round_bf16(high));
    const __m256i halves[] = {_mm512_cvtepi32_epi16(_mm512_srli_epi32(a, 16)),
                              _mm512_cvtepi32_epi16(_mm512_srli_epi32(b, 16))};
    __m512i both;
    __builtin_memcpy(&both, halves, sizeof both);
    return both;
  }

 private:
  static void require(bool right) {
    if (tile_regions == 0 || !right) __atomic_add_fetch(&tile_misuses, 1, __ATOMIC_RELAXED);
  }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
