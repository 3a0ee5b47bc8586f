// The microkernel of bf16_sum.hpp on vectors of floats: microkernel_fma.hpp's tile and chain, two chains of 16 a block.
//
// An operand is a float that holds a bfloat16, so a product is the fused multiply-add of float32 itself. The even chain
// of a tile is put aside while the registers sum the odd one. Subnormal numbers are zero from the first sum to the
// last.
//
//   B, packed   [block of 32 k][part][16 even k, then 16 odd k][vector][lane]
//   A           element(block, part, r, k), 0 <= k < 32
#pragma once

#include "gemm/bf16_sum.hpp"
#include "gemm/microkernel_fma.hpp"
#include "simd/flush.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// c += the sums over some blocks, c a tile of MR x NV vectors. With PrefetchNext each of a block's vectors of B that is
// read asks for one from `ahead` on.
template <int MR, int NV, bool PrefetchNext, class Element>
FR_INLINE void sum_blocks(int parts, int64_t blocks, const Element& element, const float* b, float* c,
                          const float* ahead) {
  using L = Lanes<float>;
  constexpr int64_t half = kPairBlock / 2, step = NV * L::N;
  alignas(64) float even[MR * step];
  for (int64_t block = 0; block < blocks; ++block, b += parts * kPairBlock * step)
    for_products(parts, [&](int i, int j) __attribute__((always_inline)) {
      const float* const from = b + j * kPairBlock * step;
      const auto each = [&](int64_t k) __attribute__((always_inline)) {
        if (PrefetchNext && i == 0) prefetch(ahead + k * L::N);
      };
      const auto asked = [&]() __attribute__((always_inline)) {
        if (PrefetchNext && i == 0) ahead += half * L::N;
      };
      typename L::V sum[MR][NV];
      chain<float, MR, NV>(
          half, from, sum, [&](int r, int64_t k) __attribute__((always_inline)) { return element(block, i, r, 2 * k); },
          each);
      asked();
#pragma GCC unroll 8
      for (int r = 0; r < MR; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) L::store(even + (r * NV + v) * L::N, sum[r][v]);
      chain<float, MR, NV>(
          half, from + half * step, sum,
          [&](int r, int64_t k) __attribute__((always_inline)) { return element(block, i, r, 2 * k + 1); }, each);
      asked();
#pragma GCC unroll 8
      for (int r = 0; r < MR; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
          const int64_t at = (r * NV + v) * L::N;
          L::store(c + at, L::load(c + at) + (L::load(even + at) + sum[r][v]));
        }
    });
}

// Rows of A, rounded: each [block of 32 k][part][32].
struct RoundedRows {
  RoundedRows operator+(int64_t rows) const { return {data + rows * pitch, pitch}; }

  const float* data;
  int64_t pitch;
};

// Rows by pitch: a chunk of them from k on. The first chunk starts from zero, later ones go on from the tile.
template <bool PrefetchNext>
struct PairDot {
  using Kernel = void (*)(int parts, int64_t count, RoundedRows a, int64_t k, const float* b, float* tile,
                          const float* ahead);

  template <int MR, int NV>
  static void run(int parts, int64_t count, RoundedRows a, int64_t k, const float* b, float* tile, const float* ahead) {
    using L = Lanes<float>;
    if (k == 0)
      for (int v = 0; v < MR * NV; ++v) L::store(tile + v * L::N, L::zero());
    const float* row[MR];
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r) row[r] = a.data + r * a.pitch + k * parts;
    [[maybe_unused]] const FlushSubnormals flush;
    sum_blocks<MR, NV, PrefetchNext>(
        parts, count / kPairBlock,
        [&](int64_t block, int part, int r, int64_t at)
            __attribute__((always_inline)) { return row[r][(block * parts + part) * kPairBlock + at]; },
        b, tile, ahead);
  }
};

// Packed columns, [block of 32 k][part][32][pitch]; goes on from (or with `replace` starts) the first `columns` columns
// of MR rows of C.
struct PairOuter {
  using Kernel = void (*)(int parts, int64_t blocks, const float* a, const float* b, float* c, int64_t ldc,
                          int64_t columns, bool replace);

  template <int MR, int NV>
  static void run(int parts, int64_t blocks, const float* a, const float* b, float* c, int64_t ldc, int64_t columns,
                  bool replace) {
    using L = Lanes<float>;
    constexpr int64_t pitch = tile_rows<kWidestPanel>();
    alignas(64) float tile[MR * NV * L::N];
    const auto for_vectors = [&](const auto& visit) __attribute__((always_inline)) {
      for (int r = 0; r < MR; ++r)
        for (int v = 0; v < NV; ++v) {
          const int64_t left = columns - v * L::N;
          if (left > 0)
            visit(c + r * ldc + v * L::N, tile + (r * NV + v) * L::N, static_cast<int>(left < L::N ? left : L::N));
        }
    };
    for (int v = 0; v < MR * NV; ++v) L::store(tile + v * L::N, L::zero());
    if (!replace)
      for_vectors([](const float* from, float* to, int count)
                      __attribute__((always_inline)) { L::store(to, L::load(from, count)); });
    {
      [[maybe_unused]] const FlushSubnormals flush;
      sum_blocks<MR, NV, false>(
          parts, blocks,
          [&](int64_t block, int part, int r, int64_t k)
              __attribute__((always_inline)) { return a[((block * parts + part) * kPairBlock + k) * pitch + r]; },
          b, tile, nullptr);
    }
    for_vectors([](float* to, const float* from, int count)
                    __attribute__((always_inline)) { L::store(to, L::load(from), count); });
  }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
