// What an engine is, and which one multiplies an element: gemm/'s interface to everything above it.
//
// An engine decides how operands look: it packs them and multiplies them, tile by tile, and is alone in knowing their
// type, their order and how k is padded. Weights come to it as matrices, rows as pointers to stored values (Storage of
// gemm/element.hpp); it gives tiles of Accumulators to an epilogue. csrc/README.md, "Elements and engines", has a
// drawing. It is a struct in a file of its own, made of the number of parts (parts_of), and a line in the list below.
//
// Operand, Accumulator
//     what it packs factors into, `parts` of them for a stored value; and as in gemm/element.hpp
// Region
//     An object of it lives on every thread from its first product in a parallel region to its last: for what a thread
//     must set up, as the shape of tile registers. What must hold while sums run but not in epilogues (denormals
//     flushed to zero) an engine sets around its own sums.
// vectors, rows<NV>()
//     the widest panel (BLIS's NR, in vectors), and the tallest tile that meets panels of NV vectors at most (MR)
// rows_alone, rows_apart
//     How threads share a step out (sequence/plan.hpp). With rows_alone rows for each and all recurrent weights in its
//     own cache, or with rows_apart rows, whose products hide that weights come from further away, a thread takes rows
//     for itself; else hidden units, and the others their part of the weights.
// chunk_rows(gradient)
//     how many (step, row) pairs make a chunk of steps, of which X W is computed at once and weight gradients are
//     summed together, where a recurrent weight has `gradient` elements. It fixes bits, so sizes alone may decide.
//
// B: weights, packed once, or a block of k of a weight gradient. Panels (gemm/panels.hpp), each in any layout.
//
// panel_elements(vectors, K)
//     Operands of a panel, all parts together. The one that begins with vector v begins at panel_elements(v, K): linear
//     in the vectors.
// pack_columns(panel, wide, vector, K, column_of)
//     One vector of a panel of `wide`, from columns of B that lie along k in memory: element (k, lane) is
//     column_of(lane)[k], zeros where that is null. column_of is called once a lane, in order.
// pack_rows(panel, wide, K, first, last, columns, row_of)
//     Steps first <= k < last of a panel, from rows of B: element (k, n) is row_of(k)[n] for n < columns, then zeros.
//     `first`, and `last` unless it is K, are multiples of pack_strip.
//
// A: rows by pointer, so that h0, resets (a row of zeros), lengths and batch_first arrays need no gathering before.
//
// A, pack_a(table, rows, K, memory), a_elements(rows, K)
//     What tiles read, made from a table of row pointers in memory of a_elements Operands; those do not get fewer for
//     more rows or a larger K. An engine that reads stored values needs none and returns the table. Elsewhere this is
//     where rows are rounded, padded and laid out, once for all panels that they meet.
//
// Products.
//
// multiply<NV>(a, rows, packed, panels, K, first, last, prepare, epilogue)
//     All tiles of `rows` rows times panels first <= p < last, sums over 0 <= k < K (zeros for K = 0). Each is handed
//     to epilogue(panel's first vector, first row, rows, vectors of the panel, tile): row i is at tile + i * vectors *
//     N. Epilogues run on the calling thread before multiply returns; an engine may hand a tile over some rows at a
//     time, between the sums of the next one. prepare(panel's first vector, first row, rows, vectors of the panel,
//     part, parts) comes for every part < parts before a tile's epilogue, spread over its sums, and may ask for a part
//     of the memory that the epilogue will touch. In parts, because a core waits once too many lines are on their way.
//
// Weight gradients, C[m][n] += sum over k of a[k][m] * b[k][n], k running over (step, row) pairs (gemm/outer.hpp).
//
// outer_block
//     pairs of a block, which are packed together
// outer_columns(blocks, K)
//     of how many columns A is packed at a time, in each of so many blocks of columns and for K pairs. All panels of B
//     pass such a group before the next one, so that its tiles stay near; kAllColumns where they need not.
// OuterA, outer(first, last, memory), outer_elements(columns)
//     Columns [first, last) of a block of A, packed into outer_elements Operands by pack(a, K, width of A's rows).
//     multiply(K, panel, wide, columns, c, ldc, replace) adds their products with a panel of pack_rows to C, c pointing
//     to row `first`, or overwrites it.
//
// Bits: what an element of a result is must not depend on threads, tiles, the ISA or the rows beside it.
#pragma once

#include "gemm/element.hpp"
#include "gemm/engine_bf16.hpp"
#include "gemm/engine_fma.hpp"
#if defined(FUSEDRNN_ISA_AMX)
#include "gemm/amx_unit.hpp"
#include "gemm/engine_amx.hpp"
#endif

namespace fusedrnn::FUSEDRNN_ISA {

// The list: the engine of every element, on the ISA being compiled.
template <class E>
struct EngineList {
  static_assert(__is_same(E, Bf16), "an element has an engine in this list");
#if defined(FUSEDRNN_ISA_AMX)
  using Engine = Amx<AmxUnit>;
#else
  using Engine = Bf16Fma;
#endif
};
template <class T>
struct EngineList<Ieee<T>> {
  using Engine = Fma<T>;
};

template <class E>
using EngineOf = typename EngineList<E>::Engine;

template <class E>
EngineOf<E> engine_of(Precision precision) {
  return EngineOf<E>(parts_of(precision));
}

// What E's engine packs; nothing but an engine looks into one.
template <class E>
using OperandOf = typename EngineOf<E>::Operand;

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
FR_INLINE void multiply(const EngineOf<E>& engine, const typename E::Storage* const* a, int64_t rows,
                        const OperandOf<E>* packed, const Panels& panels, int64_t K, int64_t first, int64_t last,
                        OperandOf<E>* memory, const Prepare& prepare, const Epilogue& epilogue) {
  engine.template multiply<NV>(engine.pack_a(a, rows, K, memory), rows, packed, panels, K, first, last, prepare,
                               epilogue);
}
template <class E, int NV, class Epilogue>
FR_INLINE void multiply(const EngineOf<E>& engine, const typename E::Storage* const* a, int64_t rows,
                        const OperandOf<E>* packed, const Panels& panels, int64_t K, int64_t first, int64_t last,
                        OperandOf<E>* memory, const Epilogue& epilogue) {
  multiply<E, NV>(
      engine, a, rows, packed, panels, K, first, last, memory, [](int64_t, int64_t, int, int, int64_t, int64_t) {},
      epilogue);
}

}  // namespace fusedrnn::FUSEDRNN_ISA
