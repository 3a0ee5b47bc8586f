// The packed B operand: panels of NV vectors, the last one narrower.
//
//   panel p:  [K][vectors of p][N lanes]   at data + p * NV * N * K        vectors of p = min(NV, vectors - p * NV)
//
// Only whole vectors are padded (with zeros), never k. What column a lane stands for is the packer's business: plain
// matrices use consecutive columns, recurrent weights interleave gates (sequence/pack.hpp).
#pragma once

#include "gemm/microkernel.hpp"
#include "simd/transpose.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class T>
int64_t vectors_of(int64_t columns) {
  return (columns + Lanes<T>::N - 1) / Lanes<T>::N;
}

template <class T>
int64_t packed_elements(int64_t vectors, int64_t K) {
  return vectors * Lanes<T>::N * K;
}

template <int NV>
int64_t panels_of(int64_t vectors) {
  return (vectors + NV - 1) / NV;
}

// One vector-wide column of a panel whose lanes lie in rows: to[k * to_stride + lane] = row_of(lane)[k], zeros for a
// lane without a row (nullptr).
template <class T, class RowOf>
void pack_rows(T* to, int64_t to_stride, int64_t K, const RowOf& row_of) {
  using L = Lanes<T>;
  constexpr int N = L::N;
  const T* from[N];
  for (int lane = 0; lane < N; ++lane) from[lane] = row_of(lane);
  for (int64_t k = 0; k < K; k += N) {
    const int steps = static_cast<int>(K - k < N ? K - k : N);
    typename L::V row[N];
#pragma GCC unroll 16
    for (int lane = 0; lane < N; ++lane)
      row[lane] = !from[lane] ? L::zero() : steps == N ? L::load(from[lane] + k) : L::load(from[lane] + k, steps);
    transpose<T>(row);
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i)
      if (i < steps) L::store(to + (k + i) * to_stride, row[i]);
  }
}

// The same where element (k, lane) is at from[lane * lane_stride + k * k_stride], one of the two strides being 1, and
// the lanes are `count`.
template <class T>
void pack_column(T* to, int64_t to_stride, const T* from, int64_t lane_stride, int64_t k_stride, int64_t count,
                 int64_t K) {
  using L = Lanes<T>;
  if (lane_stride == 1)
    for (int64_t k = 0; k < K; ++k) L::store(to + k * to_stride, L::load(from + k * k_stride, count));
  else
    pack_rows(to, to_stride, K, [&](int lane) { return lane < count ? from + lane * lane_stride : nullptr; });
}

// A plain matrix as B: element (k, n) at from[n * n_stride + k * k_stride]. Packs panels first <= p < last of it.
template <class T, int NV>
void pack_panels(T* packed, const T* from, int64_t n_stride, int64_t k_stride, int64_t columns, int64_t K,
                 int64_t first, int64_t last) {
  constexpr int N = Lanes<T>::N;
  const int64_t vectors = vectors_of<T>(columns);
  for (int64_t p = first; p < last; ++p) {
    const int64_t wide = vectors - p * NV < NV ? vectors - p * NV : NV;
    for (int64_t v = 0; v < wide; ++v) {
      const int64_t n = (p * NV + v) * N;
      pack_column(packed + p * NV * N * K + v * N, wide * N, from + n * n_stride, n_stride, k_stride,
                  columns - n < N ? columns - n : N, K);
    }
  }
}

// Runs the tiles of rows a[0 .. rows) times panels first <= p < last and hands each to
// epilogue(panel, first row, rows of the tile, vectors of the panel, tile); row i of the tile is at tile + i * vectors
// * N. Panels outside, rows inside: a panel's chunk stays in the second-level cache while the rows pass. Rows are
// shared out evenly, so 32 rows are 6 6 5 5 5 5 and not 6 6 6 6 6 2.
//
// prepare(panel, first row, rows of the tile, vectors of the panel, part, parts) comes before each of the `parts`
// chunks of a tile's sums and may ask for a part of the memory that its epilogue will touch. In parts, because a core
// waits once too many lines are on their way.
template <class T, int NV, class Prepare, class Epilogue>
void multiply(const T* const* a, int64_t rows, const T* packed, int64_t vectors, int64_t K, int64_t first, int64_t last,
              const Prepare& prepare, const Epilogue& epilogue) {
  constexpr int N = Lanes<T>::N, MR = tile_rows<NV>();
  alignas(64) T tile[MR * NV * N];
  const int64_t tiles = (rows + MR - 1) / MR, chunks = K > 0 ? (K + kChunk - 1) / kChunk : 1;
  for (int64_t p = first; p < last; ++p) {
    const int wide = static_cast<int>(vectors - p * NV < NV ? vectors - p * NV : NV);
    const T* panel = packed + p * NV * N * K;
    int64_t row = 0;
    for (int64_t i = 0; i < tiles; ++i) {
      const int tall = static_cast<int>((rows - row + (tiles - i) - 1) / (tiles - i));
      const auto kernel = pick_kernel<Dot<T>, NV>(tall, wide);
      for (int64_t c = 0; c < chunks; ++c) {
        const int64_t k = c * kChunk, count = K - k < kChunk ? K - k : kChunk;
        prepare(p, row, tall, wide, c, chunks);
        kernel(count, a + row, k, panel + k * wide * N, tile, c == 0);
      }
      epilogue(p, row, tall, wide, static_cast<const T*>(tile));
      row += tall;
    }
  }
}

template <class T, int NV, class Epilogue>
void multiply(const T* const* a, int64_t rows, const T* packed, int64_t vectors, int64_t K, int64_t first, int64_t last,
              const Epilogue& epilogue) {
  const auto nothing = [](int64_t, int64_t, int, int, int64_t, int64_t) {};
  multiply<T, NV>(a, rows, packed, vectors, K, first, last, nothing, epilogue);
}

}  // namespace fusedrnn::FUSEDRNN_ISA
