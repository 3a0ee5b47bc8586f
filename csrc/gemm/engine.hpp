// What an engine is, and which one multiplies an element: gemm/'s interface to everything above it.
//
// An engine decides how operands look: it packs them and multiplies them, tile by tile, and is alone in knowing their
// type, their order and how k is padded. Weights come to it as matrices, rows as pointers to stored values (Storage of
// gemm/element.hpp), and it gives tiles of Accumulators to an epilogue. csrc/README.md ("Engines") has a drawing; in
// BLIS's words MR is rows<NV>(), NR the columns of a panel, KC the engine's own affair.
//
// An engine is a struct of static members, in a file of its own plus a line in the list below:
//
//   Operand, Accumulator   as in gemm/element.hpp
//   Region                 an object of it lives on every thread from the first to the last product of a parallel
//   region:
//                          for what a thread must set up (the shape of tile registers). What must hold while sums run
//                          and not in epilogues (denormals flushed) an engine sets around its own sums.
//   vectors, rows<NV>()    the widest panel, and the tallest tile that meets a panel of at most NV vectors
//   chunk_rows(gradient)   (step, row) pairs whose weight gradients are summed together, and of which X W is computed
//   at
//                          once, for a recurrent weight of so many elements. Sizes alone may decide: it fixes bits
//
//   B, packed once (weights) or per block: panels (gemm/panels.hpp) one after the other, in any layout inside.
//   panel_elements(vectors, K)   Operands of a panel of so many vectors. The panel that begins with vector v begins at
//                          panel_elements(v, K), so it must be linear in the vectors
//   pack_columns(panel, wide, vector, K, column_of)   one vector of a panel of `wide`, from columns of B that lie along
//   k
//                          in memory: element (k, lane) is column_of(lane)[k]; nullptr: zeros. column_of is called once
//                          a lane, in order
//   pack_rows(panel, wide, K, first, last, columns, row_of)   steps first <= k < last of a panel, from rows of B:
//   element
//                          (k, n) is row_of(k)[n], n < columns; zeros from there on. first, and last unless it is K,
//                          are multiples of pack_strip
//
//   A, rows by pointer: h0, resets (a row of zeros), lengths and batch_first arrays need no gathering by the caller.
//   A, a_elements(rows, K), pack_a(table, rows, K, memory)   what tiles read, made from a table of row pointers; memory
//   of
//                          a_elements Operands, not fewer for more rows or a larger K. An engine that reads stored
//                          values needs none and returns the table; else this is where rows are rounded, padded and
//                          laid out, once for all panels they meet
//
//   multiply<NV>(a, rows, packed, panels, K, first, last, prepare, epilogue)   all tiles of `rows` rows times panels
//                          first <= p < last, sums over k = 0 .. K - 1 (zeros for K = 0), each handed to
//                            epilogue(panel's first vector, first row, rows, vectors of the panel, tile)
//                          with row i at tile + i * vectors * N, N lanes of Accumulators a vector. Epilogues run on the
//                          thread that called multiply, before it returns; an engine may hand a tile over a few rows at
//                          a time, between the sums of the next one.
//                            prepare(panel's first vector, first row, rows, vectors of the panel, part, parts)
//                          comes for every part < parts of a tile while or before its sums run, and may ask for a part
//                          of the memory that the epilogue will touch. In parts, because a core waits once too many
//                          lines are on their way
//
//   Weight gradients, C[m][n] += sum over k of a[k][m] * b[k][n], k running over (step, row) pairs (gemm/outer.hpp):
//   outer_block            pairs of a block: packed together, summed into C at once
//   OuterA                 columns [first, last) of a block of A: OuterA{first, last, memory} with elements(columns)
//   Operands
//                          of memory, pack(a, K, width of A's rows), multiply(K, panel, wide, columns, c, ldc,
//                          replace); c points to row `first`, the panel is one of pack_rows
//
// Bits: what an element of a result is must not depend on threads, tiles, the ISA or the rows beside it.
#pragma once

#include "gemm/element.hpp"
#include "gemm/engine_fma.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// The list: the engine of every element, on the ISA being compiled.
template <class E>
struct EngineList;

template <class T>
struct EngineList<Ieee<T>> {
  using Engine = Fma<T>;
};

template <class E>
using EngineOf = typename EngineList<E>::Engine;

// `parallel` for a body that multiplies.
template <class Engine, class Body>
void parallel_products(Team* team, int32_t n, const Body& body) {
  parallel(team, n, [&](int32_t i) {
    [[maybe_unused]] const typename Engine::Region region{};
    body(i);
  });
}

// multiply<NV> by the engine of E, straight from a table of rows; `memory` is pack_a's.
template <class E, int NV, class Prepare, class Epilogue>
FR_INLINE void multiply(const typename E::Storage* const* a, int64_t rows, const typename E::Operand* packed,
                        const Panels& panels, int64_t K, int64_t first, int64_t last, typename E::Operand* memory,
                        const Prepare& prepare, const Epilogue& epilogue) {
  using Engine = EngineOf<E>;
  Engine::template multiply<NV>(Engine::pack_a(a, rows, K, memory), rows, packed, panels, K, first, last, prepare,
                                epilogue);
}
template <class E, int NV, class Epilogue>
FR_INLINE void multiply(const typename E::Storage* const* a, int64_t rows, const typename E::Operand* packed,
                        const Panels& panels, int64_t K, int64_t first, int64_t last, typename E::Operand* memory,
                        const Epilogue& epilogue) {
  multiply<E, NV>(
      a, rows, packed, panels, K, first, last, memory, [](int64_t, int64_t, int, int, int64_t, int64_t) {}, epilogue);
}

}  // namespace fusedrnn::FUSEDRNN_ISA
