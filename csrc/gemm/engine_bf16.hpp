// The engine of bf16, bf16x3 and bf16x6 on fused multiply-adds: the sum of bf16_sum.hpp by microkernel_bf16.hpp.
// Contract: engine.hpp. An operand is a float that holds a bfloat16.
#pragma once

#include "gemm/microkernel_bf16.hpp"
#include "gemm/outer_columns.hpp"
#include "gemm/tiles.hpp"
#include "simd/bf16.hpp"
#include "simd/transpose.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

struct Bf16Fma {
  explicit constexpr Bf16Fma(int parts) : parts(parts) {}

  using Operand = float;
  using Accumulator = float;
  struct Region {};

  static constexpr int vectors = kWidestPanel;
  template <int NV>
  static constexpr int rows() {
    return tile_rows<NV>();
  }
  static constexpr int64_t rows_alone = 4, rows_apart = 24;
  static constexpr int64_t chunk_rows(int64_t gradient) { return bf16_chunk_rows(gradient); }

  // ---- B: panels as microkernel_bf16.hpp reads them
  int64_t panel_elements(int64_t vectors, int64_t K) const { return vectors * N * parts * whole_blocks(K); }

  template <class ColumnOf>
  void pack_columns(float* panel, int wide, int64_t vector, int64_t K, const ColumnOf& column_of) const {
    const float* from[N];
    for (int lane = 0; lane < N; ++lane) from[lane] = column_of(lane);
    pack_lanes(panel, wide, vector, K, from);
  }
  // A function of its own: unrolled it is 49 KB, and each way to find the columns would have a copy of it.
  __attribute__((noinline)) void pack_lanes(float* panel, int wide, int64_t vector, int64_t K,
                                            const float* const* from) const {
    with_count<kMostParts>(parts, [&](auto count) __attribute__((always_inline)) {
      constexpr int P = decltype(count)::count;
      for (int64_t k = 0; k < whole_blocks(K); k += N) {
        const int steps = static_cast<int>(K - k < 0 ? 0 : K - k < N ? K - k : N);
        V part[N][P], row[N];
#pragma GCC unroll 16
        for (int lane = 0; lane < N; ++lane)
          split_bf16<P>(!from[lane]  ? L::zero()
                        : steps == N ? L::load(from[lane] + k)
                                     : L::load(from[lane] + k, steps),
                        part[lane]);
#pragma GCC unroll 3
        for (int p = 0; p < P; ++p) {
#pragma GCC unroll 16
          for (int lane = 0; lane < N; ++lane) row[lane] = part[lane][p];
          transpose<float>(row);
#pragma GCC unroll 16
          for (int i = 0; i < N; ++i) L::store(panel + (step_of(P, k + i, p) * wide + vector) * N, row[i]);
        }
      }
    });
  }

  static constexpr int64_t pack_strip = kPairBlock;
  template <class RowOf>
  FR_INLINE void pack_rows(float* panel, int wide, int64_t K, int64_t first, int64_t last, int64_t columns,
                           const RowOf& row_of) const {
    with_count<kMostParts>(parts, [&](auto count) __attribute__((always_inline)) {
      constexpr int P = decltype(count)::count;
      if (wide > vectors) __builtin_unreachable();
      for (int64_t k = first; k < last; ++k) {
        const float* const from = row_of(k);
        for (int v = 0; v < wide; ++v) {
          const int64_t left = columns - v * N;
          V part[P];
          split_bf16<P>(left < N ? L::load(from + v * N, static_cast<int>(left)) : L::load(from + v * N), part);
          for (int p = 0; p < P; ++p) L::store(panel + (step_of(P, k, p) * wide + v) * N, part[p]);
        }
      }
      for (int64_t k = K; last == K && k < whole_blocks(K); ++k)
        for (int p = 0; p < P; ++p)
          for (int v = 0; v < wide; ++v) L::store(panel + (step_of(P, k, p) * wide + v) * N, L::zero());
    });
  }

  // ---- A: rounded rows, apart by a line more than they are long, so that they do not all meet in one set of a cache
  using A = RoundedRows;
  int64_t a_pitch(int64_t K) const { return parts * whole_blocks(K) + 16; }
  int64_t a_elements(int64_t rows, int64_t K) const { return rows * a_pitch(K); }
  A pack_a(const float* const* table, int64_t rows, int64_t K, float* memory) const {
    with_count<kMostParts>(parts, [&](auto count) __attribute__((always_inline)) {
      constexpr int P = decltype(count)::count;
      for (int64_t r = 0; r < rows; ++r) {
        float* const to = memory + r * a_pitch(K);
        for (int64_t k = 0; k < whole_blocks(K); k += N) {
          const int64_t left = K - k;
          V part[P];
          split_bf16<P>(
              left >= N ? L::load(table[r] + k) : L::load(table[r] + k, static_cast<int>(left < 0 ? 0 : left)), part);
          for (int p = 0; p < P; ++p) L::store(to + (k / kPairBlock * P + p) * kPairBlock + k % kPairBlock, part[p]);
        }
      }
    });
    return {memory, a_pitch(K)};
  }

  // ---- products
  template <int NV, class Prepare, class Epilogue>
  FR_INLINE void multiply(A a, int64_t rows, const float* packed, const Panels& panels, int64_t K, int64_t first,
                          int64_t last, const Prepare& prepare, const Epilogue& epilogue) const {
    multiply_tiles<Bf16Fma, NV>(*this, a, rows, packed, panels, whole_blocks(K), first, last, prepare, epilogue);
  }
  template <int NV, bool PrefetchNext>
  FR_INLINE auto kernel(int tall, int wide) const {  // of multiply_tiles
    const auto run = pick_kernel<PairDot<PrefetchNext>, NV>(tall, wide);
    return [run, parts = parts](int64_t count, A a, int64_t k, const float* b, float* tile, const float* ahead) {
      run(parts, count, a, k, b, tile, ahead);
    };
  }

  // ---- weight gradients
  static constexpr int64_t outer_block = kChunk;
  static constexpr int64_t outer_columns(int64_t, int64_t) { return kAllColumns; }
  struct OuterA : OuterColumns {
    OuterA() = default;
    FR_INLINE OuterA(int parts, int64_t first, int64_t last, float* packed)
        : OuterColumns{first, last}, parts(parts), packed(packed) {}

    void pack(const float* const* a, int64_t K, int64_t width) const {
      with_count<kMostParts>(parts, [&](auto count) __attribute__((always_inline)) {
        constexpr int P = decltype(count)::count;
        for_strips(a, K, width,
                   [&](int64_t tile, int64_t k, const float* from, int wanted) __attribute__((always_inline)) {
                     for (int r = 0; r < wanted; r += N) {
                       const int lanes = wanted - r < N ? wanted - r : N;
                       V part[P];
                       split_bf16<P>(L::load(from + r, lanes), part);
                       for (int p = 0; p < P; ++p) L::store(at(tile, K, k, p) + r, part[p], lanes);
                     }
                   });
      });
      for (int64_t tile = 0; tile < tiles(); ++tile)
        for (int64_t k = K; k < whole_blocks(K); ++k)
          for (int p = 0; p < parts; ++p)
            for (int r = 0; r < pitch; ++r) at(tile, K, k, p)[r] = 0;
    }

    void multiply(int64_t K, const float* panel, int wide, int64_t columns, float* c, int64_t ldc, bool replace) const {
      for (int64_t i = 0; i < tiles(); ++i) {
        float* const to = c + begin(i) * ldc;
        const int tall = height(i);
        prefetch_target(to, tall, wide, ldc);
        pick_kernel<PairOuter, kWidestPanel>(tall, wide)(parts, whole_blocks(K) / kPairBlock, at(i, K, 0, 0), panel, to,
                                                         ldc, columns, replace);
      }
    }

    int parts;
    float* packed;

   private:
    int64_t tile_elements(int64_t K) const { return pitch * parts * whole_blocks(K); }
    float* at(int64_t tile, int64_t K, int64_t k, int p) const {
      return packed + tile * tile_elements(K) + ((k / kPairBlock * parts + p) * kPairBlock + k % kPairBlock) * pitch;
    }
  };
  int64_t outer_elements(int64_t columns) const {
    return OuterA::tiles_of(columns) * OuterA::pitch * parts * whole_blocks(outer_block);
  }
  FR_INLINE OuterA outer(int64_t first, int64_t last, float* memory) const { return {parts, first, last, memory}; }

  int parts;

 private:
  using L = Lanes<float>;
  using V = typename L::V;
  static constexpr int N = L::N;

  // Where a panel has step k of a part: even steps of a block first.
  static constexpr int64_t step_of(int parts, int64_t k, int part) {
    return (k / kPairBlock * parts + part) * kPairBlock + k % 2 * (kPairBlock / 2) + k % kPairBlock / 2;
  }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
