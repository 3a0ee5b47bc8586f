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
int64_t outer_panel(const EngineOf<E>& engine) {
  return engine.panel_elements(EngineOf<E>::vectors, EngineOf<E>::outer_block);
}

// visit(n, wide, columns left) for every panel of a B with N columns, whose rows [0, K) at columns n .. lie in `panel`.
template <class E, class Visit>
void for_outer_panels(const EngineOf<E>& engine, const typename E::Storage* const* b, int64_t K, int64_t N,
                      OperandOf<E>* panel, const Visit& visit) {
  using T = typename E::Accumulator;
  const Panels panels = even_panels(vectors_of<T>(N), EngineOf<E>::vectors);
  for (int64_t p = 0; p < panels.count; ++p) {
    const int64_t n = panels.begin(p) * Lanes<T>::N, left = N - n;
    const int wide = panels.wide(p);
    engine.pack_rows(panel, wide, K, 0, K, left, [&](int64_t k) { return b[k] + n; });
    visit(n, wide, left);
  }
}

}  // namespace fusedrnn::FUSEDRNN_ISA
