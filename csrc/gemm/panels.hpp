// The packed B operand: panels of at most NV vectors.
//
//   panel p:  [K][wide(p)][N lanes]   at data + begin(p) * N * K
//
// Only whole vectors are padded (with zeros), never k. What column a lane stands for is the packer's business: plain
// matrices use consecutive columns, recurrent weights interleave gates (sequence/pack.hpp).
#pragma once

#include "gemm/engine_fma.hpp"
#include "gemm/parallel.hpp"
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

// Which vectors make which panel. Vectors are shared out evenly, so 13 are 4 3 3 3 and not 4 4 4 1: a tile of few sums
// waits for each of them. Panels that must not be cut elsewhere are all as wide as can be, but for the last one.
struct Panels {
  int64_t vectors, count;
  int64_t width, wider;  // the first `wider` panels have a vector more than `width`

  int64_t begin(int64_t p) const {
    const int64_t vector = p * width + (p < wider ? p : wider);
    return vector < vectors ? vector : vectors;
  }
  int wide(int64_t p) const { return static_cast<int>(begin(p + 1) - begin(p)); }
};

template <int NV>
Panels even_panels(int64_t vectors) {
  const int64_t count = (vectors + NV - 1) / NV, some = count > 0 ? count : 1;
  return {vectors, count, vectors / some, vectors % some};
}
template <int NV>
Panels full_panels(int64_t vectors) {
  return {vectors, (vectors + NV - 1) / NV, NV, 0};
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
template <class T>
void pack_panels(T* packed, const T* from, int64_t n_stride, int64_t k_stride, int64_t columns, int64_t K,
                 const Panels& panels, int64_t first, int64_t last) {
  constexpr int N = Lanes<T>::N;
  for (int64_t p = first; p < last; ++p) {
    const int64_t begin = panels.begin(p), wide = panels.wide(p);
    for (int64_t v = 0; v < wide; ++v) {
      const int64_t n = (begin + v) * N;
      pack_column(packed + begin * N * K + v * N, wide * N, from + n * n_stride, n_stride, k_stride,
                  columns - n < N ? columns - n : N, K);
    }
  }
}

constexpr int64_t kOwnCache = 1 << 20;  // second-level cache a thread has to itself, in bytes

// `multiply` with panels that do not fit a thread's own cache. A chunk of a panel passes up to kTogether tiles of rows
// before the next one, so that it comes from far away once for all of them, and while their sums run they ask for the
// next, each for one of its vectors. Fewer tiles than a panel has vectors would ask for a part of it, which is slower
// than to leave it to the processor's own prefetching.
template <class T, int NV, class Prepare, class Epilogue>
void multiply_l2_blocked(const T* const* a, int64_t rows, const T* packed, const Panels& panels, int64_t K,
                         int64_t first, int64_t last, const Prepare& prepare, const Epilogue& epilogue) {
  constexpr int N = Lanes<T>::N, MR = tile_rows<NV>(), kTogether = 8;
  alignas(64) T sums[kTogether][MR * NV * N];
  const int64_t tiles = (rows + MR - 1) / MR, chunks = (K + kChunk - 1) / kChunk;
  for (int64_t p = first; p < last; ++p) {
    const int64_t begin = panels.begin(p);
    const int wide = panels.wide(p);
    const T* const panel = packed + begin * N * K;
    const T* const after = packed + panels.begin(p + 1 < last ? p + 1 : first) * N * K;
    for (int64_t tile = 0; tile < tiles; tile += kTogether) {
      const int64_t end = tile + kTogether < tiles ? tile + kTogether : tiles;
      for (int64_t c = 0; c < chunks; ++c) {
        const int64_t k = c * kChunk, count = K - k < kChunk ? K - k : kChunk;
        const T* const next = c + 1 < chunks ? panel + (k + count) * wide * N : end < tiles ? panel : after;
        for (int64_t i = tile; i < end; ++i) {
          const int64_t row = share(rows, tiles, i), part = i - tile < wide ? i - tile : wide - 1;
          const int tall = static_cast<int>(share(rows, tiles, i + 1) - row);
          T* const to = sums[i - tile];
          prepare(begin, row, tall, wide, c, chunks);
          pick_kernel<Dot<T, true>, NV>(tall, wide)(count, a + row, k, panel + k * wide * N, to,
                                                    next + part * kChunk * N);
          if (c + 1 == chunks) epilogue(begin, row, tall, wide, static_cast<const T*>(to));
        }
      }
    }
  }
}

// Runs the tiles of rows a[0 .. rows) times panels first <= p < last and hands each to
// epilogue(panel's first vector, first row, rows of the tile, vectors of the panel, tile); row i of the tile is at
// tile + i * vectors * N. Panels outside, rows inside: a panel stays in the second-level cache while the rows pass.
// Rows are shared out evenly, so 32 rows are 6 6 5 5 5 5 and not 6 6 6 6 6 2.
//
// prepare(panel's first vector, first row, rows of the tile, vectors of the panel, part, parts) comes before each of
// the `parts` chunks of a tile's sums and may ask for a part of the memory that its epilogue will touch. In parts,
// because a core waits once too many lines are on their way.
//
// There are two loops that call them, so both want to be inlined by name where they are long.
template <class T, int NV, class Prepare, class Epilogue>
void multiply(const T* const* a, int64_t rows, const T* packed, const Panels& panels, int64_t K, int64_t first,
              int64_t last, const Prepare& prepare, const Epilogue& epilogue) {
  constexpr int N = Lanes<T>::N, MR = tile_rows<NV>();
  const int64_t tiles = (rows + MR - 1) / MR, elements = (panels.begin(last) - panels.begin(first)) * N * K;
  if (tiles >= NV && elements * static_cast<int64_t>(sizeof(T)) > kOwnCache)
    return multiply_l2_blocked<T, NV>(a, rows, packed, panels, K, first, last, prepare, epilogue);
  alignas(64) T tile[MR * NV * N];
  const int64_t chunks = K > 0 ? (K + kChunk - 1) / kChunk : 1;
  for (int64_t p = first; p < last; ++p) {
    const int64_t begin = panels.begin(p);
    const int wide = panels.wide(p);
    const T* panel = packed + begin * N * K;
    int64_t row = 0;
    for (int64_t i = 0; i < tiles; ++i) {
      const int tall = static_cast<int>((rows - row + (tiles - i) - 1) / (tiles - i));
      const auto kernel = pick_kernel<Dot<T, false>, NV>(tall, wide);
      for (int64_t c = 0; c < chunks; ++c) {
        const int64_t k = c * kChunk, count = K - k < kChunk ? K - k : kChunk;
        prepare(begin, row, tall, wide, c, chunks);
        kernel(count, a + row, k, panel + k * wide * N, tile, nullptr);
      }
      epilogue(begin, row, tall, wide, static_cast<const T*>(tile));
      row += tall;
    }
  }
}

template <class T, int NV, class Epilogue>
void multiply(const T* const* a, int64_t rows, const T* packed, const Panels& panels, int64_t K, int64_t first,
              int64_t last, const Epilogue& epilogue) {
  const auto nothing = [](int64_t, int64_t, int, int, int64_t, int64_t) {};
  multiply<T, NV>(a, rows, packed, panels, K, first, last, nothing, epilogue);
}

}  // namespace fusedrnn::FUSEDRNN_ISA
