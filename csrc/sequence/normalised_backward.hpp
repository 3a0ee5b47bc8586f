// Backward of a cell that normalises rows of units: normalised_forward.hpp from its end. The first part of a step
// leaves dh = d(R h)(step after) R, each thread its units; the second, whole rows to a thread, goes back through the
// cell's second half, LN_c, the first half, and LN_ih and LN_hh side by side.
//
// The carry that the cell made, and what comes of it, are computed again to the bits of forward. Sums are `reduce`'s,
// in double; all else is the element's own arithmetic.
#pragma once

#include "sequence/backward_step.hpp"
#include "sequence/normalised_forward.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class Cell, class E>
struct NormalisedBackward {
  using T = typename E::Storage;
  using L = Lanes<typename E::Accumulator>;
  using V = typename L::V;
  using Row = BackwardRow<T>;
  static constexpr int N = L::N, G = Cell::gates, NV = EngineOf<E>::vectors;

  // What a row has between its parts, and where the second part keeps what it will read again.
  struct Places {
    FR_INLINE Places(const Row& row, int64_t H)
        : dh(row.between), carry(dh + H), dcarry(carry + H), past(dcarry + H), dmade(past + H) {}

    T *dh, *carry, *dcarry, *past, *dmade;
  };
  static_assert(Cell::between_blocks >= 5, "Places has these");

  static void step(const BackwardPart<E>& part, const PackedLayer<E>& weights, int64_t continuing, int64_t active) {
    const int64_t H = part.H;
    Row* const rows = part.row;
    multiply<E, NV>(
        part.engine, part.table, continuing, weights.r_back, part.panels, G * H, part.first_panel, part.last_panel,
        part.memory,
        [&](int64_t begin, int64_t row, int tall, int wide, int64_t prefetched, int64_t parts)
            __attribute__((always_inline)) {
              for (int64_t r = prefetched; r < tall; r += parts)
                for (int v = 0; v < wide; ++v) prefetch_tape(rows[row + r], H, (begin + v) * N);
            },
        [&](int64_t begin, int64_t row, int tall, int wide, const auto* tile) __attribute__((always_inline)) {
          for (int r = 0; r < tall; ++r)
            for (int v = 0; v < wide; ++v, tile += N) {
              const int64_t unit = (begin + v) * N;
              store_units(rows[row + r].between, unit, H, arriving<E>(rows[row + r], unit, H, L::load(tile)));
            }
        });
    for (int64_t i = continuing; i < active; ++i)
      for (int64_t v = part.panels.begin(part.first_panel); v < part.panels.begin(part.last_panel); ++v)
        store_units(rows[i].between, v * N, H, rows[i].start ? load_units(rows[i].start, v * N, H) : L::zero());
  }

  // What `finish` will read, all of a row's units in the end: it comes from memory.
  FR_INLINE static void prefetch_tape(const Row& row, int64_t H, int64_t unit) {
#pragma GCC unroll 12
    for (int k = 0; k < Cell::tape_blocks; ++k) __builtin_prefetch(row.gates + k * H + unit);
    __builtin_prefetch(row.carry_prev + unit);
    if (row.dy) __builtin_prefetch(row.dy + unit);
  }

  static void finish(const BackwardPart<E>& part, const PackedLayer<E>& weights, int64_t active) {
    for (int64_t i = part.unit_group; i < active; i += part.unit_groups) finish(part.row[i], part.H, weights.units);
  }

  static void finish(const Row& row, int64_t H, const T* own) {
    const Places at(row, H);
    for (int64_t unit = 0; unit < H; unit += N) {
      V tape[G];
      load_gates(row, unit, H, tape);
      store_units(at.carry, unit, H, Cell::carry(tape, load_units(row.carry_prev, unit, H)));
    }
    const auto of_c = RoundedMoments<T>::of(at.carry, H, Cell::eps);
    through_output(row, at, H, of_c, own);
    through_norm(at.carry, of_c, row.dgates + Cell::dn * H, own + Cell::weight_c * H, H, at.dmade,
                 row.dgates + Cell::by_c * H);
    through_update(row, at, H);
    const T *const x = row.gates + G * H, *const h = x + G * H, *const da = row.dgates + Cell::da_first * H;
    const T* const values = row.values;
    through_norm(x, {values[0], values[1], values[2]}, da, own + Cell::weight_ih * H, G * H,
                 row.dgates + Cell::x_first * H, row.dgates + Cell::by_x_first * H);
    through_norm(h, {values[3], values[4], values[5]}, da, own + Cell::weight_hh * H, G * H,
                 row.dgates + Cell::h_first * H, row.dgates + Cell::by_h_first * H);
  }

 private:
  FR_INLINE static void load_gates(const Row& row, int64_t unit, int64_t H, V* tape) {
#pragma GCC unroll 8
    for (int g = 0; g < G; ++g) tape[g] = load_units(row.gates + g * H, unit, H);
  }

  // The gradient of n from that of h, o's da, and the masks.
  FR_INLINE static void through_output(const Row& row, const Places& at, int64_t H, const RoundedMoments<T>& of_c,
                                       const T* own) {
    for (int64_t unit = 0; unit < H; unit += N) {
      V tape[G], da[G], dh = load_units(at.dh, unit, H), dcarry = load_units(row.dcarry, unit, H), past = L::zero();
      load_gates(row, unit, H, tape);
      if (row.dy) dh = load_units(row.dy, unit, H) + dh;
      if (row.flow) store_units(row.flow, unit, H, dh);
      if (row.masks) {
        V h = dh, c = dcarry;  // copies, so that the values themselves stay in registers
        const int count = static_cast<int>(H - unit < N ? H - unit : N);
        UnitMasks<E>::backward_h(*row.masks, unit, count, h);
        past = UnitMasks<E>::template backward_carry<Cell::separate_carry>(*row.masks, unit, count, c);
        dh = h;
        dcarry = c;
      }
      const V seen = NormalisedForward<Cell, E>::seen(of_c.normal(load_units(at.carry, unit, H)), own, unit, H);
      const V dn = Cell::output_backward(tape, seen, dh, L::zero(), da);
      store_units(row.dgates + Cell::dn * H, unit, H, dn);
      store_units(row.dgates + (Cell::da_first + G - 1) * H, unit, H, da[G - 1]);
      store_units(at.dcarry, unit, H, dcarry);
      store_units(at.past, unit, H, past);
    }
  }

  // The other da from all of the gradient of the carry.
  FR_INLINE static void through_update(const Row& row, const Places& at, int64_t H) {
    for (int64_t unit = 0; unit < H; unit += N) {
      V tape[G], da[G];
      load_gates(row, unit, H, tape);
      const V dc = load_units(at.dcarry, unit, H) + load_units(at.dmade, unit, H);
      const V past = load_units(at.past, unit, H);
      if (row.flow) store_units(row.flow + H, unit, H, dc + past);
      const V dcarry = Cell::update_backward(tape, load_units(row.carry_prev, unit, H), dc, da);
#pragma GCC unroll 8
      for (int g = 0; g < G - 1; ++g) store_units(row.dgates + (Cell::da_first + g) * H, unit, H, da[g]);
      store_units(row.dcarry_prev, unit, H, dcarry + past);
    }
  }

  // From dy, the gradient of LN(x), that of x; `products` gets what dy adds to the gradient of its weight.
  FR_INLINE static void through_norm(const T* x, const RoundedMoments<T>& m, const T* dy, const T* weight,
                                     int64_t width, T* dx, T* products) {
    const auto means = NormalRow<T>(x, m.wide()).means(width, [&](int64_t i, int64_t left) {
      return Wide::load(dy + i, left) * Wide::load(weight + i, left);
    });
    const V along = L::set(static_cast<T>(means.along)), across = L::set(static_cast<T>(means.across));
    const V rstd = L::set(m.rstd);
    for (int64_t i = 0; i < width; i += N) {
      const V d = load_units(dy, i, width), n = m.normal(load_units(x, i, width));
      const V g = d * load_units(weight, i, width);
      store_units(dx, i, width, rstd * L::fma(-n, across, g - along));
      store_units(products, i, width, d * n);
    }
  }

 public:
  static constexpr BackwardKernels<E> kernels = {step, finish};
};

}  // namespace fusedrnn::FUSEDRNN_ISA
