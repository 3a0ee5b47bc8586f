// C (M, N) += sum over k of a[k][m] * b[k][n]: the product of weight gradients, k running over (step, row) pairs.
// Row m of C is at row_of(m), because gates may lie in another order in C than in A.
//
// Both operands are tables of row pointers, so gradients of scattered rows (lengths, batch_first, states at resets)
// need no gathering. k goes in blocks of kChunk in order: each block's sum is one ordered chain, added to C. Only rows
// m_first <= m < m_last of C are touched: threads share those out.
#pragma once

#include "gemm/panels.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

constexpr int kOuterVectors = 4;  // width of the tile

// Elements of scratch a thread needs for an outer product with N columns.
template <class T>
int64_t outer_scratch(int64_t N) {
  return kChunk * (vectors_of<T>(N) * Lanes<T>::N + tile_rows<kOuterVectors>());
}

// Element m of row k of A is a[k][m]; of B b[k][n]. `replace`: C = ... instead of +=, K = 0 writing zeros.
template <class T, class RowOf>
void outer_product(const T* const* a, const T* const* b, int64_t K, int64_t m_first, int64_t m_last, int64_t N,
                   RowOf&& row_of, bool replace, T* scratch) {
  using L = Lanes<T>;
  constexpr int NV = kOuterVectors, MR = tile_rows<NV>();
  const int64_t vectors = vectors_of<T>(N), panels = panels_of<NV>(vectors);
  T* const packed_a = scratch + kChunk * vectors * L::N;
  alignas(64) T tile[MR * NV * L::N];
  int64_t k0 = 0;
  do {
    const int64_t block = K - k0 < kChunk ? K - k0 : kChunk;
    for (int64_t v = 0; v < vectors; ++v) {
      const int64_t p = v / NV, wide = vectors - p * NV < NV ? vectors - p * NV : NV;
      T* to = scratch + p * NV * L::N * block + (v - p * NV) * L::N;
      const int64_t count = N - v * L::N;
      if (count >= L::N)
        for (int64_t k = 0; k < block; ++k) L::store(to + k * wide * L::N, L::load(b[k0 + k] + v * L::N));
      else
        for (int64_t k = 0; k < block; ++k) L::store(to + k * wide * L::N, L::load(b[k0 + k] + v * L::N, count));
    }
    for (int64_t m = m_first; m < m_last;) {
      const int tall = static_cast<int>(m_last - m < MR ? m_last - m : MR);
      const T* rows[MR];
      for (int r = 0; r < tall; ++r) rows[r] = packed_a + r;
      for (int64_t k = 0; k < block; ++k)
        for (int r = 0; r < tall; r += L::N) {
          const int count = tall - r < L::N ? tall - r : L::N;
          L::store(packed_a + k * MR + r, L::load(a[k0 + k] + m + r, count), count);
        }
      for (int64_t p = 0; p < panels; ++p) {
        const int wide = static_cast<int>(vectors - p * NV < NV ? vectors - p * NV : NV);
        pick_microkernel<T, NV>(tall, wide)(block, rows, MR, scratch + p * NV * L::N * block, tile);
        for (int r = 0; r < tall; ++r)
          for (int v = 0; v < wide; ++v) {
            const int64_t n = (p * NV + v) * L::N;
            const int64_t count = N - n < L::N ? N - n : L::N;
            T* to = row_of(m + r) + n;
            const auto sum = L::load(tile + (r * wide + v) * L::N);
            L::store(to, replace ? sum : L::load(to, count) + sum, count);
          }
      }
      m += tall;
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
      const int64_t count = n_last - n < L::N ? n_last - n : L::N;
      auto block = L::zero();
      for (int64_t k = k0; k < end; ++k) block = block + L::load(a[k] + n, count);
      L::store(sum + n, L::load(sum + n, count) + block, count);
    }
  }
}

}  // namespace fusedrnn::FUSEDRNN_ISA
