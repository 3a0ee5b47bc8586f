// What backward does once for each cell: the product of a step and the cell's gradients in its epilogue. Knows nothing
// of time; backward.hpp calls it.
#pragma once

#include "sequence/projection.hpp"
#include "simd/math.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class Cell, class E>
struct BackwardStep {
  using T = typename E::Storage;
  using L = Lanes<typename E::Accumulator>;
  using V = typename L::V;
  using Row = BackwardRow<T>;
  static constexpr int N = L::N, NV = EngineOf<E>::vectors;
  static constexpr bool projects = projection_of(Cell::weights) >= 0;

  static void step(const BackwardPart<E>& part, const PackedLayer<E>& weights, int64_t continuing, int64_t active) {
    const int64_t H = part.H;
    Row* const rows = part.row;
    multiply<E, NV>(
        part.engine, part.table, continuing, weights.r_back, part.panels, Cell::gates * H, part.first_panel,
        part.last_panel, part.memory,
        [&](int64_t begin, int64_t row, int tall, int wide, int64_t prefetched, int64_t parts)
            __attribute__((always_inline)) {
              for (int64_t r = prefetched; r < tall; r += parts)
                for (int v = 0; v < wide; ++v) prefetch_inputs(rows[row + r], H, (begin + v) * N);
            },
        [&](int64_t begin, int64_t row, int tall, int wide, const auto* tile)
            __attribute__((always_inline)) { finish_tile(weights, rows + row, H, begin, tall, wide, tile, true); });
    for (int64_t i = continuing; i < active; ++i)
      for (int64_t v = part.panels.begin(part.first_panel); v < part.panels.begin(part.last_panel); ++v) {
        alignas(64) T dh[N];
        L::store(dh, rows[i].start ? load_units(rows[i].start, v * N, H) : L::zero());
        finish_tile(weights, rows + i, H, v, 1, 1, dh, false);
      }
  }

  // The second part of a cell that projects h: the gradient of what is projected, and the cell.
  static void behind_projection(const BackwardPart<E>& part, const PackedLayer<E>& weights, int64_t active) {
    const int64_t H = part.H;
    Row* const rows = part.row;
    for (int64_t i = 0; i < active; ++i) part.table[i] = rows[i].dh;
    multiply<E, NV>(
        part.engine, part.table, active, weights.project_back, part.panels, part.P, part.first_panel, part.last_panel,
        part.memory,
        [&](int64_t begin, int64_t row, int tall, int wide, int64_t prefetched, int64_t parts)
            __attribute__((always_inline)) {
              for (int64_t r = prefetched; r < tall; r += parts)
                for (int v = 0; v < wide; ++v) prefetch_inputs(rows[row + r], H, (begin + v) * N);
            },
        [&](int64_t begin, int64_t row, int tall, int wide, const auto* tile)
            __attribute__((always_inline)) { finish_tile(weights, rows + row, H, begin, tall, wide, tile, false); });
  }

  // The tape comes from memory: what `finish` will read of it is on its way while the tile's sums are computed.
  FR_INLINE static void prefetch_inputs(const Row& row, int64_t H, int64_t unit) {
#pragma GCC unroll 8
    for (int k = 0; k < Cell::tape_blocks; ++k) __builtin_prefetch(row.gates + k * H + unit);
    __builtin_prefetch(row.carry + unit);
    __builtin_prefetch(row.carry_prev + unit);
    if (!projects && row.dy) __builtin_prefetch(row.dy + unit);
  }

  // The cell's backward for the rows of a tile and `wide` vectors of units from vector `begin` on. The tile has what
  // arrives from the step after, as a product left it with `product`, or all of the gradient of what is projected.
  FR_INLINE static void finish_tile(const PackedLayer<E>& weights, const Row* rows, int64_t H, int64_t begin, int tall,
                                    int wide, const T* tile, bool product) {
    if (rows->masks)
      finish_masked(weights, rows, H, begin, tall, wide, tile, product);
    else
      for (int r = 0; r < tall; ++r)
        for (int v = 0; v < wide; ++v, tile += N) finish<false>(weights, rows[r], H, (begin + v) * N, L::load(tile));
  }

  // `finish_tile` with masks, which all rows of a pass have or none has. Not inlined, as in ForwardStep.
  static __attribute__((noinline)) void finish_masked(const PackedLayer<E>& weights, const Row* rows, int64_t H,
                                                      int64_t begin, int tall, int wide, const T* tile, bool product) {
    for (int r = 0; r < tall; ++r)
      for (int v = 0; v < wide; ++v, tile += N) {
        const int64_t unit = (begin + v) * N;
        const V dh = L::load(tile);
        finish<true>(weights, rows[r], H, unit, product ? arriving<E>(rows[r], unit, H, dh) : dh);
      }
  }

  // Of one row and one vector of units.
  template <bool Masked>
  FR_INLINE static void finish(const PackedLayer<E>& weights, const Row& row, int64_t H, int64_t unit, V dh) {
    V tape[Cell::tape_blocks + 1], own[Cell::unit_values + 1], da[Cell::dgate_blocks];
#pragma GCC unroll 8
    for (int k = 0; k < Cell::tape_blocks; ++k) tape[k] = load_units(row.gates + k * H, unit, H);
#pragma GCC unroll 8
    for (int k = 0; k < Cell::unit_values; ++k) own[k] = load_units(weights.units + k * H, unit, H);
    if (!projects && row.dy) dh = load_units(row.dy, unit, H) + dh;
    const V carry_prev = load_units(row.carry_prev, unit, H);
    V carry = load_units(row.carry, unit, H), from = Cell::carry_gradient ? load_units(row.dcarry, unit, H) : L::zero();
    if (!projects && row.flow)
      store_units(row.flow, unit, H, Cell::carry_gradient && !Cell::separate_carry ? dh + from : dh);
    V past = L::zero(), whole = from;
    if constexpr (Masked) {
      V h = dh, c = from;  // copies, so that the values themselves stay in registers
      const int count = static_cast<int>(H - unit < N ? H - unit : N);
      if (!projects) UnitMasks<E>::backward_h(*row.masks, unit, count, h);
      past = UnitMasks<E>::template backward_carry<Cell::separate_carry>(*row.masks, unit, count, c);
      dh = h;
      from = c;
      if constexpr (Cell::separate_carry) carry = Cell::carry(tape, carry_prev);
    }
    if constexpr (projects) store_units(row.output, unit, H, Cell::output(tape, carry));
    V dcarry = backward_of<Cell>(tape, own, carry_prev, carry, dh, from, da, &whole);
    if (Cell::separate_carry && row.flow) store_units(row.flow + H, unit, H, Masked ? whole + past : whole);
    if constexpr (Masked) dcarry = dcarry + past;
#pragma GCC unroll 8
    for (int k = 0; k < Cell::dgate_blocks; ++k) store_units(row.dgates + k * H, unit, H, da[k]);
    if (Cell::carry_gradient) store_units(row.dcarry_prev, unit, H, dcarry);
  }

  static constexpr BackwardKernels<E> kernels = {projects ? state_gradients<E, Cell::gates> : step,
                                                 projects ? behind_projection : nullptr};
};

}  // namespace fusedrnn::FUSEDRNN_ISA
