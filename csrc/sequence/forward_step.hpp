// What forward does once for each cell: the two products of a step and the cell in the epilogue of the second. Knows
// nothing of time; forward.hpp calls it.
#pragma once

#include "sequence/projection.hpp"
#include "simd/math.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// ForwardKernels::input, for panels of NV vectors.
template <class E, int NV>
void input_product(const ForwardPart<E>& part, const PackedLayer<E>& weights, int64_t rows, int64_t K,
                   typename E::Storage* pre) {
  using T = typename E::Storage;
  using L = Lanes<typename E::Accumulator>;
  constexpr int N = L::N;
  multiply<E, NV>(part.engine, part.operand, rows, weights.w, part.panels, K, part.first_panel, part.last_panel,
                  part.memory, [&](int64_t begin, int64_t row, int tall, int wide, const auto* tile) {
                    const T* bias = weights.bias_x + begin * N;
                    T* to = pre + row * part.pre_stride + (begin - part.first_vector) * N;
                    for (int r = 0; r < tall; ++r, to += part.pre_stride, tile += wide * N)
                      for (int v = 0; v < wide; ++v)
                        L::store(to + v * N, L::load(tile + v * N) + L::load(bias + v * N));
                  });
}

template <class Cell, class E>
struct ForwardStep {
  using T = typename E::Storage;
  using L = Lanes<typename E::Accumulator>;
  using V = typename L::V;
  static constexpr int N = L::N, G = Cell::gates, U = panel_units<E>(G), NV = panel_vectors<E>(G);
  static constexpr bool projects = projection_of(Cell::weights) >= 0;
  static_assert(NV <= EngineOf<E>::vectors, "a panel must have room for all gates of a vector of units");
  static_assert(U == 1 || G == 1, "a panel has the gates of one vector of units, or vectors of units with one gate");

  static void step(const ForwardPart<E>& part, const PackedLayer<E>& weights, int64_t active, const T* pre) {
    multiply<E, NV>(part.engine, part.operand, active, weights.r, part.panels, part.P, part.first_panel,
                    part.last_panel, part.memory,
                    [&](int64_t begin, int64_t row, int tall, int wide, const auto* tile)
                        __attribute__((always_inline)) {
                          const T* x = pre + row * part.pre_stride + (begin - part.first_vector) * N;
                          if (part.row[row].masks)
                            finish_masked(part, weights, begin, row, tall, wide, x, tile);
                          else
                            finish_rows<false>(part, weights, begin, row, tall, wide, x, tile);
                        });
  }

  // `finish_rows` with masks, which all rows of a pass have or none has. Not inlined, and told apart once for a tile:
  // a call inside the loop over rows would make the constants of the cell's functions be loaded again for each row.
  static __attribute__((noinline)) void finish_masked(const ForwardPart<E>& part, const PackedLayer<E>& weights,
                                                      int64_t begin, int64_t row, int tall, int wide, const T* x,
                                                      const T* tile) {
    finish_rows<true>(part, weights, begin, row, tall, wide, x, tile);
  }

  // The cell for the rows of a tile.
  template <bool Masked>
  FR_INLINE static void finish_rows(const ForwardPart<E>& part, const PackedLayer<E>& weights, int64_t begin,
                                    int64_t row, int tall, int wide, const T* x, const T* tile) {
    for (int r = 0; r < tall; ++r, x += part.pre_stride, tile += wide * N)
      finish<Masked>(part.row[row + r], part.H, begin, wide, x, tile, weights.bias_h + begin * N, weights.units);
  }

  // The cell for one row and the units of one panel: x and h hold its input and recurrent parts.
  template <bool Masked>
  FR_INLINE static void finish(const ForwardRow<T>& row, int64_t H, int64_t begin, int wide, const T* x, const T* h,
                               const T* bias_h, const T* units) {
    for (int u = 0; u < (U == 1 ? 1 : wide); ++u, x += N, h += N, bias_h += N) {
      const int64_t unit = (begin / G + u) * N;
      const int count = static_cast<int>(H - unit < N ? H - unit : N);
      const auto load = [&](const T* from) { return count == N ? L::load(from) : L::load(from, count); };
      const auto load_units = [&](const T* from) { return load(from + unit); };
      const auto store_units = [&](T* to, V v) { count == N ? L::store(to + unit, v) : L::store(to + unit, v, count); };
      const auto store_past = [&](bool streams, T* to, V v) {
        kStreams&& streams ? stream(to + unit, v) : store_units(to, v);
      };
      V from_x[G], from_h[G], own[Cell::unit_values + 1], tape[Cell::tape_blocks + 1], carry;
#pragma GCC unroll 8
      for (int g = 0; g < G; ++g) {
        from_x[g] = load(x + g * count);
        from_h[g] = load(h + g * count) + load(bias_h + g * count);
      }
#pragma GCC unroll 8
      for (int k = 0; k < Cell::unit_values; ++k) own[k] = load_units(units + k * H);
      const V carry_prev = load_units(row.carry_prev);
      V out = forward_of<Cell>(from_x, from_h, own, carry_prev, carry, tape);
      if constexpr (Masked) {
        V h = out, c = carry;  // copies, so that the values themselves stay in registers
        if (!projects) UnitMasks<E>::forward_h(*row.masks, unit, count, h);
        UnitMasks<E>::forward_carry(*row.masks, unit, count, c, carry_prev);
        out = h;
        carry = c;
      }
      if constexpr (projects) {
        store_units(row.between, out);
      } else {
        store_units(row.h, out);
        if (row.y) store_past(row.streams_y, row.y, out);
        if (row.hn) store_units(row.hn, out);
      }
      if (Cell::separate_carry) {
        store_units(row.carry, carry);
        if (row.cn) store_units(row.cn, carry);
      }
      if (row.gates)
#pragma GCC unroll 8
        for (int k = 0; k < Cell::tape_blocks; ++k) store_past(row.streams_gates, row.gates + k * H, tape[k]);
    }
  }

  static constexpr ForwardKernels<E> kernels = {input_product<E, NV>, step, projects ? project_states<E> : nullptr};
};

}  // namespace fusedrnn::FUSEDRNN_ISA
