// C (M, N) += sum over k of a[k][m] * b[k][n]: the product of weight gradients, k running over (step, row) pairs.
//
// Both operands are tables of row pointers, so gradients of scattered rows (lengths, batch_first, states at resets)
// need no gathering. k goes in blocks of Engine::outer_block in order, each block's sums are added to C. Only rows
// first <= m < last of C are touched: threads share those out.
//
// Per block a thread packs its columns of A once (Engine::OuterA), then B panel by panel; a panel stays in the
// second-level cache while the tiles of A pass.
#pragma once

#include "gemm/engine.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// Operands of memory for one panel of B.
template <class E>
constexpr int64_t outer_panel = EngineOf<E>::panel_elements(EngineOf<E>::vectors, EngineOf<E>::outer_block);

// visit(n, wide, columns left) for every panel of a B with N columns, whose rows [0, K) at columns n .. lie in `panel`.
template <class E, class Visit>
void for_outer_panels(const typename E::Storage* const* b, int64_t K, int64_t N, typename E::Operand* panel,
                      const Visit& visit) {
  using T = typename E::Accumulator;
  const Panels panels = even_panels<EngineOf<E>::vectors>(vectors_of<T>(N));
  for (int64_t p = 0; p < panels.count; ++p) {
    const int64_t n = panels.begin(p) * Lanes<T>::N, left = N - n;
    const int wide = panels.wide(p);
    EngineOf<E>::pack_rows(panel, wide, K, 0, K, left, [&](int64_t k) { return b[k] + n; });
    visit(n, wide, left);
  }
}

// sum[n] (and also[n], unless null) += sum over k of a[k][n] for n_first <= n < n_last: bias gradients, in
// blocks of kChunk, plain additions in order.
template <class T>
void sum_rows(const T* const* a, int64_t K, int64_t n_first, int64_t n_last, T* sum, T* also = nullptr) {
  using L = Lanes<T>;
  constexpr int kStrip = 4;  // vectors at a time: rows lie far apart
  for (int64_t k0 = 0; k0 < K; k0 += kChunk) {
    const int64_t end = K - k0 < kChunk ? K : k0 + kChunk;
    for (int64_t n = n_first; n < n_last; n += kStrip * L::N) {
      typename L::V block[kStrip];
      int count[kStrip];
      for (int v = 0; v < kStrip; ++v) {
        const int64_t left = n_last - n - v * L::N;
        count[v] = static_cast<int>(left <= 0 ? 0 : left < L::N ? left : L::N);
        block[v] = L::zero();
      }
      if (count[kStrip - 1] == L::N) {
        for (int64_t k = k0; k < end; ++k)
          for (int v = 0; v < kStrip; ++v) block[v] = block[v] + L::load(a[k] + n + v * L::N);
      } else {
        for (int64_t k = k0; k < end; ++k)
          for (int v = 0; v < kStrip && count[v] > 0; ++v) block[v] = block[v] + L::load(a[k] + n + v * L::N, count[v]);
      }
      T* const targets[] = {sum, also};
      for (T* const to : targets)
        for (int v = 0; to && v < kStrip && count[v] > 0; ++v)
          L::store(to + n + v * L::N, L::load(to + n + v * L::N, count[v]) + block[v], count[v]);
    }
  }
}

}  // namespace fusedrnn::FUSEDRNN_ISA
