// The register tile: a few rows of A times a panel of B, every product of the package passes through here.
//
//            B panel, packed                       A: one pointer per row, element k at a[r][k * a_stride]
//        k = 0  [ v0 | v1 | .. ]                   (row pointers make h0, resets (a row of zeros), lengths and
//        k = 1  [ v0 | v1 | .. ]                    batch_first one mechanism; a_stride > 1 reads packed columns)
//        ..         NV vectors of N lanes
//
//   tile[r][v] = sum over k of a[r][k] * B[k][v]      MR x NV vectors, contiguous, written without being read
//
// Order of the sum, the same on every ISA and for every MR and NV, so that bits depend on K alone: k runs in chunks of
// kChunk; inside a chunk one ordered chain of fused multiply-adds starting at zero; chunk results added in order.
// k is never padded: exactly K elements of each row are read.
#pragma once

#include "simd/lanes.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

constexpr int64_t kChunk = 256;

// Rows of the tallest tile whose accumulators, one row of B and a broadcast fit the register file.
template <int NV>
constexpr int tile_rows() {
#if defined(FUSEDRNN_ISA_AVX512) || defined(FUSEDRNN_ISA_NEON)
  return NV >= 4 ? 6 : 8;
#else
  return NV >= 4 ? 3 : NV == 3 ? 4 : 6;
#endif
}

template <class T, int MR, int NV>
void microkernel(int64_t K, const T* const* a, int64_t a_stride, const T* b, T* tile) {
  using L = Lanes<T>;
  using V = typename L::V;
  constexpr int N = L::N;
  const T* row[MR];
#pragma GCC unroll 8
  for (int r = 0; r < MR; ++r) row[r] = a[r];
  int64_t k = 0;
  do {
    const int64_t end = K - k < kChunk ? K : k + kChunk;
    const bool first = k == 0;
    V sum[MR][NV];
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) sum[r][v] = L::zero();
    for (; k < end; ++k) {
      V column[NV];
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) column[v] = L::load(b + v * N);
      b += NV * N;
#pragma GCC unroll 8
      for (int r = 0; r < MR; ++r) {
        const V broadcast = L::set(row[r][k * a_stride]);
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) sum[r][v] = L::fma(broadcast, column[v], sum[r][v]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) {
        T* to = tile + (r * NV + v) * N;
        L::store(to, first ? sum[r][v] : L::load(to) + sum[r][v]);
      }
  } while (k < K);
}

template <class T>
using Microkernel = void (*)(int64_t K, const T* const* a, int64_t a_stride, const T* b, T* tile);

template <class T, int NV>
Microkernel<T> pick_rows(int rows) {
  constexpr int most = tile_rows<NV>();
  switch (rows) {
    case 1:
      return microkernel<T, 1, NV>;
    case 2:
      return microkernel<T, 2, NV>;
    case 3:
      return microkernel<T, 3, NV>;
    case 4:
      return microkernel < T, most < 4 ? 1 : 4, NV > ;
    case 5:
      return microkernel < T, most < 5 ? 1 : 5, NV > ;
    case 6:
      return microkernel < T, most < 6 ? 1 : 6, NV > ;
    case 7:
      return microkernel < T, most < 7 ? 1 : 7, NV > ;
    default:
      return microkernel < T, most < 8 ? 1 : 8, NV > ;
  }
}

// The kernel of a tile of `rows` <= tile_rows<NV>() rows (of the full panel's NV) and `vectors` <= NV vectors.
template <class T, int NV>
Microkernel<T> pick_microkernel(int rows, int vectors) {
  if constexpr (NV > 1) {
    if (vectors < NV) return pick_microkernel<T, NV - 1>(rows, vectors);
  }
  return pick_rows<T, NV>(rows);
}

}  // namespace fusedrnn::FUSEDRNN_ISA
