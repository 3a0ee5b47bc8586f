// The microkernel of IEEE arithmetic: a few rows of A times a panel of B, sums in registers.
//
//            B panel, packed                       A: element k of row r
//        k = 0  [ v0 | v1 | .. ]                   Dot: a[r][k], a table of row pointers, which makes h0, resets (a
//        k = 1  [ v0 | v1 | .. ]                   row of zeros), lengths and batch_first one mechanism
//        ..         NV vectors of N lanes          Outer: a[k * tile_rows + r], packed columns (engine_fma.hpp)
//
//   tile[r][v] = sum over k of A[r][k] * B[k][v]      MR x NV vectors
//
// Order of the sum, the same on every ISA and for every MR and NV, so that bits depend on K alone: k runs in chunks of
// kChunk; inside a chunk one ordered chain of fused multiply-adds starting at zero; chunk results added in order.
// k is never padded: exactly K elements of each row are read.
#pragma once

#include "gemm/panels.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

constexpr int kWidestPanel = 4;  // vectors; the width of a weight gradient's tile

// Rows of the tallest tile whose accumulators, one row of B and a broadcast fit the register file.
template <int NV>
constexpr int tile_rows() {
#if defined(FUSEDRNN_ISA_AVX512) || defined(FUSEDRNN_ISA_NEON)
  return NV >= 4 ? 6 : 8;
#else
  return NV >= 4 ? 3 : NV == 3 ? 4 : 6;
#endif
}

// Asks for a line, into the second-level cache. The empty assembly is there because GCC takes a function that only asks
// (a lambda, say) for one without effect and drops the call.
FR_INLINE void prefetch(const void* p) {
  __builtin_prefetch(p, 0, 2);
  asm volatile("" ::"r"(p));
}

// One chunk's chain for a whole tile: element(r, k) is that of A, b the panel at the chunk's first k; each(k) comes
// with every step.
template <class T, int MR, int NV, class Element, class Each>
FR_INLINE void chain(int64_t count, const T* b, typename Lanes<T>::V (&sum)[MR][NV], const Element& element,
                     const Each& each) {
  using L = Lanes<T>;
#pragma GCC unroll 8
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) sum[r][v] = L::zero();
  for (int64_t k = 0; k < count; ++k, b += NV * L::N) {
    each(k);
    typename L::V column[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) column[v] = L::load(b + v * L::N);
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r) {
      const auto broadcast = L::set(element(r, k));
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) sum[r][v] = L::fma(broadcast, column[v], sum[r][v]);
    }
  }
}

// Rows by pointer: a chunk of them from k on, count <= kChunk. The tile is contiguous; the first chunk writes it
// without reading it, later ones add. With PrefetchNext every step asks for a vector from `ahead` on, memory that need
// not be there.
template <class T, bool PrefetchNext>
struct Dot {
  using Kernel = void (*)(int64_t count, const T* const* a, int64_t k, const T* b, T* tile, const T* ahead);

  template <int MR, int NV>
  static void run(int64_t count, const T* const* a, int64_t k, const T* b, T* tile, const T* ahead) {
    using L = Lanes<T>;
    const T* row[MR];
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r) row[r] = a[r] + k;
    typename L::V sum[MR][NV];
    chain<T, MR, NV>(
        count, b, sum, [&](int r, int64_t i) { return row[r][i]; },
        [&](int64_t i) {
          if (PrefetchNext) prefetch(ahead + i * L::N);
        });
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) {
        T* to = tile + (r * NV + v) * L::N;
        L::store(to, k == 0 ? sum[r][v] : L::load(to) + sum[r][v]);
      }
  }
};

// Packed columns, K <= kChunk; adds into (or with `replace` overwrites) the first `columns` columns of MR rows of C.
template <class T>
struct Outer {
  using Kernel = void (*)(int64_t K, const T* a, const T* b, T* c, int64_t ldc, int64_t columns, bool replace);

  template <int MR, int NV>
  static void run(int64_t K, const T* a, const T* b, T* c, int64_t ldc, int64_t columns, bool replace) {
    using L = Lanes<T>;
    constexpr int N = L::N, pitch = tile_rows<kWidestPanel>();
    typename L::V sum[MR][NV];
    chain<T, MR, NV>(K, b, sum, [&](int r, int64_t k) { return a[k * pitch + r]; }, [](int64_t) {});
    const bool full = columns >= NV * N;
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) {
        T* to = c + r * ldc + v * N;
        if (full) {
          L::store(to, replace ? sum[r][v] : L::load(to) + sum[r][v]);
        } else {
          const int count = static_cast<int>(columns - v * N < N ? columns - v * N : N);
          L::store(to, replace ? sum[r][v] : L::load(to, count) + sum[r][v], count);
        }
      }
  }
};

template <class Family, int NV>
typename Family::Kernel pick_rows(int rows) {
  constexpr int most = tile_rows<NV>();
  switch (rows) {
    case 1:
      return Family::template run<1, NV>;
    case 2:
      return Family::template run<2, NV>;
    case 3:
      return Family::template run<3, NV>;
    case 4:
      return Family::template run < most < 4 ? 1 : 4, NV > ;
    case 5:
      return Family::template run < most < 5 ? 1 : 5, NV > ;
    case 6:
      return Family::template run < most < 6 ? 1 : 6, NV > ;
    case 7:
      return Family::template run < most < 7 ? 1 : 7, NV > ;
    default:
      return Family::template run < most < 8 ? 1 : 8, NV > ;
  }
}

// The kernel of a tile of `rows` <= tile_rows<NV>() rows (of the full panel's NV) and `vectors` <= NV vectors.
template <class Family, int NV>
typename Family::Kernel pick_kernel(int rows, int vectors) {
  if constexpr (NV > 1) {
    if (vectors < NV) return pick_kernel<Family, NV - 1>(rows, vectors);
  }
  return pick_rows<Family, NV>(rows);
}

}  // namespace fusedrnn::FUSEDRNN_ISA
