// C (M, N) += sum over k of a[k][m] * b[k][n]: the product of weight gradients, k running over (step, row) pairs.
//
// Both operands are tables of row pointers, so gradients of scattered rows (lengths, batch_first, states at resets)
// need no gathering. k goes in blocks of kChunk in order: each block's sum is one ordered chain, added to C. Only rows
// m_first <= m < m_last of C are touched: threads share those out.
//
// Per block a thread packs its columns of A once, [tile][k][MR], reading each row of A from end to end, then B panel by
// panel; a panel stays in the second-level cache while the tiles of A pass. The lines of C that a tile will add to are
// asked for before its sums begin, for C is larger than the caches near by.
#pragma once

#include "gemm/panels.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

constexpr int kOuterVectors = 4;  // width of the tile

// Elements of scratch a thread needs for an outer product with at most M rows of C to itself.
template <class T>
int64_t outer_scratch(int64_t M) {
  constexpr int MR = tile_rows<kOuterVectors>();
  return kChunk * ((M + MR - 1) / MR * MR + kOuterVectors * Lanes<T>::N);
}

// packed[tile][k][r] = a[k][m_first + tile * MR + r], a strip of tiles at a time: wide enough to use every cache line
// of A it touches, narrow enough for the lines it writes, one per tile, to stay in the first-level cache.
template <class T, int MR>
void pack_tiles(const T* const* a, int64_t K, int64_t m_first, int64_t m_last, T* packed) {
  using L = Lanes<T>;
  constexpr int64_t kStrip = 8 * MR;
  for (int64_t strip = m_first; strip < m_last; strip += kStrip) {
    const int64_t end = m_last - strip < kStrip ? m_last : strip + kStrip;
    for (int64_t k = 0; k < K; ++k) {
      const T* row = a[k];
      for (int64_t m = strip; m < end; m += MR) {
        T* to = packed + (m - m_first) * K + k * MR;
        const int tall = static_cast<int>(end - m < MR ? end - m : MR);
        for (int r = 0; r < tall; r += L::N) {
          const int count = tall - r < L::N ? tall - r : L::N;
          L::store(to + r, L::load(row + m + r, count), count);
        }
      }
    }
  }
}

// Columns [n, n + wide * N) of the rows of B as one panel.
template <class T>
void pack_rows(const T* const* b, int64_t K, int64_t n, int64_t columns, int wide, T* panel) {
  using L = Lanes<T>;
  for (int64_t k = 0; k < K; ++k, panel += wide * L::N)
    for (int v = 0; v < wide; ++v) {
      const int64_t at = n + v * L::N;
      L::store(panel + v * L::N,
               columns - at < L::N ? L::load(b[k] + at, static_cast<int>(columns - at)) : L::load(b[k] + at));
    }
}

// Element m of row k of A is a[k][m]; of B b[k][n]. `replace`: C = ... instead of +=, K = 0 writing zeros.
template <class T>
void outer_product(const T* const* a, const T* const* b, int64_t K, int64_t m_first, int64_t m_last, int64_t N, T* c,
                   int64_t ldc, bool replace, T* scratch) {
  using L = Lanes<T>;
  constexpr int NV = kOuterVectors, MR = tile_rows<NV>();
  const int64_t vectors = vectors_of<T>(N), panels = panels_of<NV>(vectors);
  T* const panel = scratch;
  T* const tiles = scratch + kChunk * NV * L::N;
  alignas(64) T tile[MR * NV * L::N];
  int64_t k0 = 0;
  do {
    const int64_t block = K - k0 < kChunk ? K - k0 : kChunk;
    pack_tiles<T, MR>(a + k0, block, m_first, m_last, tiles);
    for (int64_t p = 0; p < panels; ++p) {
      const int wide = static_cast<int>(vectors - p * NV < NV ? vectors - p * NV : NV);
      const int64_t n0 = p * NV * L::N;
      pack_rows<T>(b + k0, block, n0, N, wide, panel);
      for (int64_t m = m_first; m < m_last; m += MR) {
        const int tall = static_cast<int>(m_last - m < MR ? m_last - m : MR);
        const T* rows[MR];
        for (int r = 0; r < tall; ++r) {
          rows[r] = tiles + (m - m_first) * block + r;
          for (int v = 0; v < wide; ++v) __builtin_prefetch(c + (m + r) * ldc + n0 + v * L::N, 1);
        }
        pick_microkernel<T, NV>(tall, wide)(block, rows, MR, panel, tile);
        for (int r = 0; r < tall; ++r) {
          T* const to = c + (m + r) * ldc + n0;
          for (int v = 0; v < wide; ++v) {
            const int64_t left = N - n0 - v * L::N;
            const int count = static_cast<int>(left < L::N ? left : L::N);
            const auto sum = L::load(tile + (r * wide + v) * L::N);
            L::store(to + v * L::N, replace ? sum : L::load(to + v * L::N, count) + sum, count);
          }
        }
      }
    }
    replace = false;
    k0 += block;
  } while (k0 < K);
}

// sum[n] += sum over k of a[k][n] for n_first <= n < n_last: bias gradients; the same blocks, plain additions in order.
template <class T>
void sum_rows(const T* const* a, int64_t K, int64_t n_first, int64_t n_last, T* sum) {
  using L = Lanes<T>;
  for (int64_t k0 = 0; k0 < K; k0 += kChunk) {
    const int64_t end = K - k0 < kChunk ? K : k0 + kChunk;
    for (int64_t n = n_first; n < n_last; n += L::N) {
      const int count = static_cast<int>(n_last - n < L::N ? n_last - n : L::N);
      auto block = L::zero();
      for (int64_t k = k0; k < end; ++k) block = block + L::load(a[k] + n, count);
      L::store(sum + n, L::load(sum + n, count) + block, count);
    }
  }
}

}  // namespace fusedrnn::FUSEDRNN_ISA
