// Both parts of a step of a cell whose last gate reads a gated state: a GRU with the reset gate before the product. The
// first multiplies h, the second what the first made of it, so that between them all threads of a row group meet.
//
// Forward: h R of the gates that read h itself, and r h; then (r h) R_n, n and the new state. Backward: what the
// product of the step after hands over, and the gradients of z and n; then dn R_n, the gradient of r h, and with it
// that of r.
#pragma once

#include "sequence/backward_step.hpp"
#include "sequence/forward_step.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class Cell, class E>
struct GatedForwardStep {
  using T = typename E::Storage;
  using L = Lanes<typename E::Accumulator>;
  using V = typename L::V;
  using Row = ForwardRow<T>;
  static constexpr int N = L::N, G = Cell::gates, Open = G - Cell::gated_gates;
  static_assert(Cell::gated_gates == 1 && Open > 1, "panels are made for one gated gate and several others");
  static_assert(Cell::between_blocks == 1 + Open, "a gated h, and what `open` puts on the tape");

  static void step(const ForwardPart<E>& part, const PackedLayer<E>& weights, int64_t active, const T* pre) {
    multiply<E, panel_vectors<E>(Open)>(
        part.engine, part.operand, active, weights.r, gate_panels<E>(Open, part.H), part.H, part.first_panel,
        part.last_panel, part.memory, [&](int64_t begin, int64_t row, int tall, int wide, const auto* tile) {
          const int64_t vector = begin / Open;
          for (int r = 0; r < tall; ++r, tile += wide * N)
            open(part.row[row + r], part.operand[row + r], part.H, vector * N, x_at(part, pre, row + r, vector), tile,
                 weights.bias_h + vector * G * N);
        });
  }

  static void finish(const ForwardPart<E>& part, const PackedLayer<E>& weights, int64_t active, const T* pre) {
    constexpr int NV = EngineOf<E>::vectors;
    for (int64_t i = 0; i < active; ++i) part.operand[i] = part.row[i].between;
    multiply<E, NV>(part.engine, part.operand, active, weights.r_gated, gated_panels<E>(part.H), part.H,
                    part.first_panel / NV, (part.last_panel + NV - 1) / NV, part.memory,
                    [&](int64_t begin, int64_t row, int tall, int wide, const auto* tile) {
                      for (int r = 0; r < tall; ++r)
                        for (int v = 0; v < wide; ++v, tile += N)
                          close(part.row[row + r], part.H, (begin + v) * N, x_at(part, pre, row + r, begin + v), tile,
                                weights.bias_h + (begin + v) * G * N);
                    });
  }

  // All gates of a vector of units, side by side: X W + b_ih of a row.
  static const T* x_at(const ForwardPart<E>& part, const T* pre, int64_t row, int64_t vector) {
    return pre + row * part.pre_stride + (vector * G - part.first_vector) * N;
  }

  static int units_at(int64_t unit, int64_t H) { return static_cast<int>(H - unit < N ? H - unit : N); }
  static V load(const T* from, int count) { return count == N ? L::load(from) : L::load(from, count); }

  // Where the first blocks of the tape go: the tape, or for the second part alone.
  static T* opened(const Row& row, int64_t H) { return row.gates ? row.gates : row.between + H; }

  static void open(const Row& row, const T* seen, int64_t H, int64_t unit, const T* x, const T* h, const T* bias_h) {
    const int count = units_at(unit, H);
    V from_x[Open], from_h[Open], tape[Cell::tape_blocks];
#pragma GCC unroll 8
    for (int g = 0; g < Open; ++g) {
      from_x[g] = load(x + g * count, count);
      from_h[g] = load(h + g * count, count) + load(bias_h + g * count, count);
    }
    Cell::open(from_x, from_h, tape);
    store_units(row.between, unit, H, Cell::gated(tape, load_units(seen, unit, H)));
#pragma GCC unroll 8
    for (int g = 0; g < Open; ++g) store_units(opened(row, H) + g * H, unit, H, tape[g]);
  }

  static void close(const Row& row, int64_t H, int64_t unit, const T* x, const T* h, const T* bias_h) {
    const int count = units_at(unit, H);
    V tape[Cell::tape_blocks];
#pragma GCC unroll 8
    for (int g = 0; g < Open; ++g) tape[g] = load_units(opened(row, H) + g * H, unit, H);
    const V from_h = load(h, count) + load(bias_h + Open * count, count), state = load_units(row.carry_prev, unit, H);
    V out = Cell::close(load(x + Open * count, count), from_h, state, tape);
    if (row.masks) {
      V made = out;  // a copy, so that the value itself stays in a register
      UnitMasks<E>::forward_h(*row.masks, unit, count, made);
      out = made;
    }
    store_units(row.h, unit, H, out);
    if (row.y) store_units(row.y, unit, H, out);
    if (row.hn) store_units(row.hn, unit, H, out);
    if (row.gates) store_units(row.gates + Open * H, unit, H, tape[Open]);
  }

  static constexpr ForwardKernels<E> kernels = {input_product<E, panel_vectors<E>(G)>, step, finish};
};

template <class Cell, class E>
struct GatedBackwardStep {
  using T = typename E::Storage;
  using L = Lanes<typename E::Accumulator>;
  using V = typename L::V;
  using Row = BackwardRow<T>;
  static constexpr int N = L::N, NV = EngineOf<E>::vectors, Open = Cell::gates - Cell::gated_gates;
  static_assert(Cell::h_first == 0, "dgates begin with those of the gates that read h itself");

  static void step(const BackwardPart<E>& part, const PackedLayer<E>& weights, int64_t continuing, int64_t active) {
    const int64_t H = part.H;
    multiply<E, NV>(part.engine, part.table, continuing, weights.r_back, part.panels, Open * H, part.first_panel,
                    part.last_panel, part.memory,
                    [&](int64_t begin, int64_t row, int tall, int wide, const auto* tile) {
                      for (int r = 0; r < tall; ++r)
                        for (int v = 0; v < wide; ++v, tile += N)
                          close(part.row[row + r], H, (begin + v) * N,
                                arriving<E>(part.row[row + r], (begin + v) * N, H, L::load(tile)));
                    });
    for (int64_t i = continuing; i < active; ++i)
      for (int64_t v = part.panels.begin(part.first_panel); v < part.panels.begin(part.last_panel); ++v)
        close(part.row[i], H, v * N, part.row[i].start ? load_units(part.row[i].start, v * N, H) : L::zero());
  }

  static void finish(const BackwardPart<E>& part, const PackedLayer<E>& weights, int64_t active) {
    const int64_t H = part.H;
    for (int64_t i = 0; i < active; ++i) part.table[i] = part.row[i].dgates + Open * H;
    multiply<E, NV>(part.engine, part.table, active, weights.r_gated_back, part.panels, Cell::gated_gates * H,
                    part.first_panel, part.last_panel, part.memory,
                    [&](int64_t begin, int64_t row, int tall, int wide, const auto* tile) {
                      for (int r = 0; r < tall; ++r)
                        for (int v = 0; v < wide; ++v, tile += N)
                          open(part.row[row + r], H, (begin + v) * N, L::load(tile));
                    });
  }

  static void load_tape(const Row& row, int64_t unit, int64_t H, V* tape) {
#pragma GCC unroll 8
    for (int k = 0; k < Cell::tape_blocks; ++k) tape[k] = load_units(row.gates + k * H, unit, H);
  }

  // h before the step as products saw it.
  static V seen(const Row& row, int64_t unit, int64_t H) {
    return load_units(row.masks && row.masks->masked ? row.masks->masked : row.carry_prev, unit, H);
  }

  // `dh` is what arrives from the step after, but for the direct path, which row.dcarry has.
  static void close(const Row& row, int64_t H, int64_t unit, V dh) {
    V tape[Cell::tape_blocks], da[Cell::dgate_blocks], past = L::zero();
    load_tape(row, unit, H, tape);
    if (row.dy) dh = load_units(row.dy, unit, H) + dh;
    V direct = load_units(row.dcarry, unit, H);
    if (row.flow) store_units(row.flow, unit, H, dh + direct);
    if (row.masks) {
      const int count = static_cast<int>(H - unit < N ? H - unit : N);
      UnitMasks<E>::backward_h(*row.masks, unit, count, dh);
      past = UnitMasks<E>::template backward_carry<false>(*row.masks, unit, count, direct);
    }
    const V on = Cell::backward_close(tape, load_units(row.carry_prev, unit, H), dh + direct, da);
    store_units(row.dcarry_prev, unit, H, row.masks ? on + past : on);
    store_units(row.gated, unit, H, Cell::gated(tape, seen(row, unit, H)));
#pragma GCC unroll 8
    for (int k = 1; k < Cell::dgate_blocks; ++k) store_units(row.dgates + k * H, unit, H, da[k]);
  }

  static void open(const Row& row, int64_t H, int64_t unit, V dgated) {
    V tape[Cell::tape_blocks], da[Cell::dgate_blocks];
    load_tape(row, unit, H, tape);
    V through = Cell::backward_open(tape, seen(row, unit, H), dgated, da);
    if (row.masks && row.masks->recurrent) through = through * load_units(row.masks->recurrent, unit, H);
    store_units(row.dcarry_prev, unit, H, load_units(row.dcarry_prev, unit, H) + through);
    store_units(row.dgates, unit, H, da[0]);
  }

  static constexpr BackwardKernels<E> kernels = {step, finish};
};

}  // namespace fusedrnn::FUSEDRNN_ISA
