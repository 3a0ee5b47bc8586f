// What backward does once for each cell: the product of a step and the cell's gradients in its epilogue. Knows nothing
// of time; backward.hpp calls it.
#pragma once

#include "sequence/masks.hpp"
#include "sequence/units.hpp"
#include "simd/math.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// The units of one thread of the grid, and the memory it works in.
template <class E>
struct BackwardPart {
  using T = typename E::Storage;

  int64_t H;
  Panels panels;  // of units
  int64_t first_panel, last_panel;
  int64_t unit_group, unit_groups;
  const T** table;       // the rows of a product
  OperandOf<E>* memory;  // what the engine packs them into
  BackwardRow<T>* row;   // the rows of a step, as `table`
};

template <class E>
struct BackwardKernels {
  // dh = dgates(next step) R for `continuing` rows of a step, what starts at it for the rest of the `active` ones, and
  // the cell's gradients, or the first part of them.
  void (*step)(const BackwardPart<E>& part, const PackedLayer<E>& weights, int64_t continuing, int64_t active);
  // The second part, when all threads of the row group have done the first: null for a cell that ends with it.
  void (*finish)(const BackwardPart<E>& part, const PackedLayer<E>& weights, int64_t active);
};

// What the product of the step after hands to a row.
template <class E, class L = Lanes<typename E::Accumulator>>
FR_INLINE typename L::V arriving(const BackwardRow<typename E::Storage>& row, int64_t unit, int64_t H,
                                 typename L::V product) {
  if (!row.masks) return product;
  return UnitMasks<E>::arriving(*row.masks, unit, static_cast<int>(H - unit < L::N ? H - unit : L::N), product);
}

template <class Cell, class E>
struct BackwardStep {
  using T = typename E::Storage;
  using L = Lanes<typename E::Accumulator>;
  using V = typename L::V;
  using Row = BackwardRow<T>;
  static constexpr int N = L::N, NV = EngineOf<E>::vectors;

  static void step(const BackwardPart<E>& part, const PackedLayer<E>& weights, int64_t continuing, int64_t active) {
    const int64_t H = part.H;
    Row* const rows = part.row;
    multiply<E, NV>(
        part.table, continuing, weights.r_back, part.panels, Cell::gates * H, part.first_panel, part.last_panel,
        part.memory,
        [&](int64_t begin, int64_t row, int tall, int wide, int64_t prefetched, int64_t parts)
            __attribute__((always_inline)) {
              for (int64_t r = prefetched; r < tall; r += parts)
                for (int v = 0; v < wide; ++v) prefetch_inputs(rows[row + r], H, (begin + v) * N);
            },
        [&](int64_t begin, int64_t row, int tall, int wide, const auto* tile) __attribute__((always_inline)) {
          for (int r = 0; r < tall; ++r)
            for (int v = 0; v < wide; ++v, tile += N)
              finish(weights, rows[row + r], H, (begin + v) * N,
                     arriving<E>(rows[row + r], (begin + v) * N, H, L::load(tile)));
        });
    for (int64_t i = continuing; i < active; ++i)
      for (int64_t v = part.panels.begin(part.first_panel); v < part.panels.begin(part.last_panel); ++v)
        finish(weights, rows[i], H, v * N, rows[i].start ? load_units(rows[i].start, v * N, H) : L::zero());
  }

  // The tape comes from memory: what `finish` will read of it is on its way while the tile's sums are computed.
  FR_INLINE static void prefetch_inputs(const Row& row, int64_t H, int64_t unit) {
#pragma GCC unroll 8
    for (int k = 0; k < Cell::tape_blocks; ++k) __builtin_prefetch(row.gates + k * H + unit);
    __builtin_prefetch(row.carry + unit);
    __builtin_prefetch(row.carry_prev + unit);
    if (row.dy) __builtin_prefetch(row.dy + unit);
  }

  // The cell's backward for one row and one vector of units, `dh` being what arrives from the step after.
  FR_INLINE static void finish(const PackedLayer<E>& weights, const Row& row, int64_t H, int64_t unit, V dh) {
    V tape[Cell::tape_blocks + 1], own[Cell::unit_values + 1], da[Cell::dgate_blocks];
#pragma GCC unroll 8
    for (int k = 0; k < Cell::tape_blocks; ++k) tape[k] = load_units(row.gates + k * H, unit, H);
#pragma GCC unroll 8
    for (int k = 0; k < Cell::unit_values; ++k) own[k] = load_units(weights.units + k * H, unit, H);
    if (row.dy) dh = load_units(row.dy, unit, H) + dh;
    const V carry_prev = load_units(row.carry_prev, unit, H);
    V carry = load_units(row.carry, unit, H), from = Cell::carry_gradient ? load_units(row.dcarry, unit, H) : L::zero();
    if (row.flow) store_units(row.flow, unit, H, Cell::carry_gradient && !Cell::separate_carry ? dh + from : dh);
    V past = L::zero(), whole = from;
    if (row.masks) {
      V h = dh, c = from;  // copies, so that the values themselves stay in registers
      const int count = static_cast<int>(H - unit < N ? H - unit : N);
      past = UnitMasks<E>::template backward<Cell::separate_carry>(*row.masks, unit, count, h, c);
      dh = h;
      from = c;
      if constexpr (Cell::separate_carry) carry = Cell::carry(tape, carry_prev);
    }
    V dcarry = backward_of<Cell>(tape, own, carry_prev, carry, dh, from, da, &whole);
    if (Cell::separate_carry && row.flow) store_units(row.flow + H, unit, H, whole + past);
    if (row.masks) dcarry = dcarry + past;
#pragma GCC unroll 8
    for (int k = 0; k < Cell::dgate_blocks; ++k) store_units(row.dgates + k * H, unit, H, da[k]);
    if (Cell::carry_gradient) store_units(row.dcarry_prev, unit, H, dcarry);
  }

  static constexpr BackwardKernels<E> kernels = {step, nullptr};
};

}  // namespace fusedrnn::FUSEDRNN_ISA
