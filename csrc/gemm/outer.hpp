// C (M, N) += sum over k of a[k][m] * b[k][n]: the product of weight gradients, k running over (step, row) pairs.
//
// Both operands are tables of row pointers, so gradients of scattered rows (lengths, batch_first, states at resets)
// need no gathering. k goes in blocks of Engine::outer_block in order, each block's sums are added to C. Only rows
// first <= m < last of C are touched: threads share those out.
//
// Per block a thread packs its columns of A (Engine::OuterA), then B panel by panel; a panel stays in the second-level
// cache while the tiles of A pass. An engine for which the way of A's tiles through every panel would take longer than
// their products (Engine::outer_columns) gets A a group of columns at a time, near by while all panels of B pass; then
// the panels are kept.
#pragma once

#include "gemm/engine.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// Which of a thread's `columns` of A are packed together where a block has K pairs: groups of so many.
template <class E>
int64_t outer_group(const EngineOf<E>& engine, int64_t columns, int64_t blocks, int64_t K) {
  constexpr int64_t block = EngineOf<E>::outer_block;
  const int64_t group = engine.outer_columns(blocks, K < block ? K : block);
  return group < columns ? group : columns;
}

// Operands of memory for B: one panel, or all those of N columns where they are kept.
template <class E>
int64_t outer_panels(const EngineOf<E>& engine, int64_t N, bool kept) {
  const int64_t widest = EngineOf<E>::vectors, vectors = kept ? vectors_of<typename E::Accumulator>(N) : widest;
  return engine.panel_elements(vectors > widest ? vectors : widest, EngineOf<E>::outer_block);
}

// visit(panel, n, wide, columns left) for every panel of a B with N columns, whose rows [0, K) at columns n .. lie in
// `panel`. With `kept` each has a place of its own in memory, and where they are `packed` they are there already.
template <class E, class Visit>
void for_outer_panels(const EngineOf<E>& engine, const typename E::Storage* const* b, int64_t K, int64_t N,
                      OperandOf<E>* memory, bool kept, bool packed, const Visit& visit) {
  using T = typename E::Accumulator;
  const Panels panels = even_panels(vectors_of<T>(N), EngineOf<E>::vectors);
  for (int64_t p = 0; p < panels.count; ++p) {
    const int64_t n = panels.begin(p) * Lanes<T>::N, left = N - n;
    const int wide = panels.wide(p);
    OperandOf<E>* const panel = memory + (kept ? engine.panel_elements(panels.begin(p), K) : 0);
    if (!packed) engine.pack_rows(panel, wide, K, 0, K, left, [&](int64_t k) { return b[k] + n; });
    visit(panel, n, wide, left);
  }
}

}  // namespace fusedrnn::FUSEDRNN_ISA
