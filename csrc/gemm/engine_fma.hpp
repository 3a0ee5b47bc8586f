// The engine of IEEE arithmetic: fused multiply-adds on vectors, every sum in the order that microkernel_fma.hpp says.
// Contract: engine.hpp. An operand is the stored value, so rows of A are read where they lie and only B is packed.
#pragma once

#include "gemm/microkernel_fma.hpp"
#include "gemm/outer_columns.hpp"
#include "gemm/tiles.hpp"
#include "simd/transpose.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// The left operand of a weight gradient: tiles of columns, each [k][pitch].
template <class T>
struct OuterTiles : OuterColumns {
  OuterTiles() = default;
  FR_INLINE OuterTiles(int64_t first, int64_t last, T* packed) : OuterColumns{first, last}, packed(packed) {}

  // packed[tile][k][r] = a[k][first + begin(tile) + r]
  void pack(const T* const* a, int64_t K, int64_t width) const {
    for_strips(a, K, width, [&](int64_t tile, int64_t k, const T* from, int count) __attribute__((always_inline)) {
      using L = Lanes<T>;
      T* const to = packed + (tile * K + k) * pitch;
      for (int r = 0; r < count; r += L::N) {
        const int lanes = count - r < L::N ? count - r : L::N;
        L::store(to + r, L::load(from + r, lanes), lanes);
      }
    });
  }

  // C[m][n] += (or = with `replace`) the sums over K packed rows, m in [first, last), n the `columns` ones that B's
  // panel of `wide` vectors begins with; c points to row `first`.
  void multiply(int64_t K, const T* panel, int wide, int64_t columns, T* c, int64_t ldc, bool replace) const {
    const int64_t count = tiles();
    for (int64_t i = 0; i < count; ++i) {
      T* const to = c + begin(i) * ldc;
      const int tall = height(i);
      prefetch_target(to, tall, wide, ldc);
      pick_kernel<Outer<T>, kWidestPanel>(tall, wide)(K, packed + i * K * pitch, panel, to, ldc, columns, replace);
    }
  }

  T* packed;
};

template <class T>
struct Fma {
  explicit constexpr Fma(int /*parts*/) {}

  using Operand = T;
  using Accumulator = T;
  struct Region {};

  static constexpr int vectors = kWidestPanel;
  template <int NV>
  static constexpr int rows() {
    return tile_rows<NV>();
  }
  static constexpr int64_t rows_alone = 4, rows_apart = 24;
  static constexpr int64_t chunk_rows(int64_t /*gradient*/) { return kChunk; }  // few enough to stay cached

  // ---- B: panels [k][vector][lane], exactly K steps
  static constexpr int64_t panel_elements(int64_t vectors, int64_t K) { return vectors * N * K; }

  template <class ColumnOf>
  static void pack_columns(T* panel, int wide, int64_t vector, int64_t K, const ColumnOf& column_of) {
    const int64_t step = wide * N;
    T* const to = panel + vector * N;
    const T* from[N];
    for (int lane = 0; lane < N; ++lane) from[lane] = column_of(lane);
    for (int64_t k = 0; k < K; k += N) {
      const int steps = static_cast<int>(K - k < N ? K - k : N);
      typename L::V row[N];
#pragma GCC unroll 16
      for (int lane = 0; lane < N; ++lane)
        row[lane] = !from[lane] ? L::zero() : steps == N ? L::load(from[lane] + k) : L::load(from[lane] + k, steps);
      transpose<T>(row);
#pragma GCC unroll 16
      for (int i = 0; i < N; ++i)
        if (i < steps) L::store(to + (k + i) * step, row[i]);
    }
  }

  static constexpr int64_t pack_strip = 16;
  template <class RowOf>
  FR_INLINE static void pack_rows(T* panel, int wide, int64_t /*K*/, int64_t first, int64_t last, int64_t columns,
                                  const RowOf& row_of) {
    if (wide > vectors) __builtin_unreachable();  // a loop known to be short is a fifth faster
    T* to = panel + first * wide * N;
    for (int64_t k = first; k < last; ++k, to += wide * N) {
      const T* const from = row_of(k);
      for (int v = 0; v < wide; ++v) {
        const int64_t count = columns - v * N;
        L::store(to + v * N, count < N ? L::load(from + v * N, static_cast<int>(count)) : L::load(from + v * N));
      }
    }
  }

  // ---- A: the rows themselves
  using A = const T* const*;
  static constexpr int64_t a_elements(int64_t /*rows*/, int64_t /*K*/) { return 0; }
  FR_INLINE static A pack_a(const T* const* rows, int64_t /*count*/, int64_t /*K*/, T* /*memory*/) { return rows; }

  // ---- products
  template <int NV, class Prepare, class Epilogue>
  FR_INLINE void multiply(A a, int64_t rows, const T* packed, const Panels& panels, int64_t K, int64_t first,
                          int64_t last, const Prepare& prepare, const Epilogue& epilogue) const {
    multiply_tiles<Fma, NV>(*this, a, rows, packed, panels, K, first, last, prepare, epilogue);
  }
  template <int NV, bool PrefetchNext>
  FR_INLINE static auto kernel(int tall, int wide) {  // of multiply_tiles
    return pick_kernel<Dot<T, PrefetchNext>, NV>(tall, wide);
  }

  // ---- weight gradients
  static constexpr int64_t outer_block = kChunk;
  static constexpr int64_t outer_columns(int64_t, int64_t) { return kAllColumns; }
  using OuterA = OuterTiles<T>;
  static constexpr int64_t outer_elements(int64_t columns) {
    return OuterA::tiles_of(columns) * OuterA::pitch * outer_block;
  }
  FR_INLINE static OuterA outer(int64_t first, int64_t last, T* memory) { return {first, last, memory}; }

 private:
  using L = Lanes<T>;
  static constexpr int N = L::N;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
