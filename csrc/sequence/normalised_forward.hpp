// Forward of a cell that normalises rows of units (cells/lstm_layer_norm.hpp). The first part of a step leaves W x and
// R h, each thread its units; behind a barrier the threads of a row group share out whole rows:
//
//   a = LN_ih(W x) + LN_hh(R h) + b    the cell's first half makes gates and carry of it
//   n = LN_c(carry)                    its second half makes h of gates and n; the carry itself goes on as it is
//
// A row is one thread's, and its sums are `reduce`: no bit depends on the grid.
#pragma once

#include "layers/row_norm.hpp"
#include "sequence/forward_step.hpp"
#include "sequence/units.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// A row's statistics, rounded: what all lanes normalise with, forward and backward. The mean of a row far from zero
// would lose the digits that x - mean has, so it keeps what rounding took from it.
template <class T>
struct RoundedMoments {
  using L = Lanes<T>;

  FR_INLINE static RoundedMoments of(const T* x, int64_t width, double eps) {
    const Moments m = moments(x, width, eps);
    const T mean = static_cast<T>(m.mean);
    return {mean, static_cast<T>(m.mean - static_cast<double>(mean)), static_cast<T>(m.rstd)};
  }
  FR_INLINE typename L::V normal(typename L::V x) const { return (x - L::set(mean) - L::set(rest)) * L::set(rstd); }
  FR_INLINE Moments wide() const { return {static_cast<double>(mean) + static_cast<double>(rest), rstd}; }

  T mean, rest, rstd;
};

template <class Cell, class E>
struct NormalisedForward {
  using T = typename E::Storage;
  using L = Lanes<typename E::Accumulator>;
  using V = typename L::V;
  using Row = ForwardRow<T>;
  static constexpr int N = L::N, G = Cell::gates, NV = panel_vectors<E>(G);
  static_assert(panel_units<E>(G) == 1, "a panel has the gates of one vector of units");
  static_assert(Cell::between_blocks == 2 * G && Cell::tape_blocks == 3 * G && Cell::row_values == 6,
                "the rows below have these places");

  // Where a row keeps its gates, W x and R h: on the tape, or without one from step to step.
  FR_INLINE static T* gates(const Row& row) { return row.gates ? row.gates : row.between; }
  FR_INLINE static T* from_x(const Row& row, int64_t H) { return row.gates ? row.gates + G * H : row.between; }
  FR_INLINE static T* from_h(const Row& row, int64_t H) { return from_x(row, H) + G * H; }

  static void step(const ForwardPart<E>& part, const PackedLayer<E>& weights, int64_t active, const T* pre) {
    const int64_t H = part.H;
    multiply<E, NV>(
        part.engine, part.operand, active, weights.r, part.panels, H, part.first_panel, part.last_panel, part.memory,
        [&](int64_t begin, int64_t row, int tall, int wide, const auto* tile) __attribute__((always_inline)) {
          const T* x = pre + row * part.pre_stride + (begin - part.first_vector) * N;
          const int64_t unit = begin / G * N, count = H - unit < N ? H - unit : N;
          for (int r = 0; r < tall; ++r, x += part.pre_stride, tile += wide * N)
            for (int g = 0; g < G; ++g) {
              const int left = static_cast<int>(count);
              L::store(from_x(part.row[row + r], H) + g * H + unit, L::load(x + g * count, left), left);
              L::store(from_h(part.row[row + r], H) + g * H + unit, L::load(tile + g * count, left), left);
            }
        });
  }

  static void finish(const ForwardPart<E>& part, const PackedLayer<E>& weights, int64_t active, const T*) {
    for (int64_t i = part.unit_group; i < active; i += part.unit_groups) finish(part.row[i], part.H, weights);
  }

  static void finish(const Row& row, int64_t H, const PackedLayer<E>& weights) {
    const T *const x = from_x(row, H), *const h = from_h(row, H), *const own = weights.units;
    const auto of_x = RoundedMoments<T>::of(x, G * H, Cell::eps), of_h = RoundedMoments<T>::of(h, G * H, Cell::eps);
    if (row.values) {
      const T values[] = {of_x.mean, of_x.rest, of_x.rstd, of_h.mean, of_h.rest, of_h.rstd};
      copy_row<T>(row.values, values, Cell::row_values);
    }
    // Unit by unit into what has been read of the unit, where W x and R h are not on the tape.
    T *const at = gates(row), *const made = row.between + G * H;
    for (int64_t unit = 0; unit < H; unit += N) {
      V a[G], tape[G];
#pragma GCC unroll 8
      for (int g = 0; g < G; ++g) {
        const auto load = [&](const T* from) { return load_units(from + g * H, unit, H); };
        const V part_h = L::fma(of_h.normal(load(h)), load(own + Cell::weight_hh * H), load(weights.shift));
        a[g] = L::fma(of_x.normal(load(x)), load(own + Cell::weight_ih * H), part_h);
      }
      store_units(made, unit, H, Cell::update(a, load_units(row.carry_prev, unit, H), tape));
#pragma GCC unroll 8
      for (int g = 0; g < G; ++g) store_units(at + g * H, unit, H, tape[g]);
    }
    const auto of_c = RoundedMoments<T>::of(made, H, Cell::eps);
    for (int64_t unit = 0; unit < H; unit += N) {
      V tape[G], carry = load_units(made, unit, H);
#pragma GCC unroll 8
      for (int g = 0; g < G; ++g) tape[g] = load_units(at + g * H, unit, H);
      V out = Cell::output(tape, seen(of_c.normal(carry), own, unit, H));
      if (row.masks) {
        V h_out = out, c = carry;  // copies, so that the values themselves stay in registers
        const int count = static_cast<int>(H - unit < N ? H - unit : N);
        UnitMasks<E>::forward_h(*row.masks, unit, count, h_out);
        UnitMasks<E>::forward_carry(*row.masks, unit, count, c, load_units(row.carry_prev, unit, H));
        out = h_out;
        carry = c;
      }
      store_units(row.h, unit, H, out);
      if (row.y) store_units(row.y, unit, H, out);
      if (row.hn) store_units(row.hn, unit, H, out);
      store_units(row.carry, unit, H, carry);
      if (row.cn) store_units(row.cn, unit, H, carry);
    }
  }

  // LN_c of the carry, from n.
  FR_INLINE static V seen(V n, const T* own, int64_t unit, int64_t H) {
    return L::fma(n, load_units(own + Cell::weight_c * H, unit, H), load_units(own + Cell::bias_c * H, unit, H));
  }

  static constexpr ForwardKernels<E> kernels = {input_product<E, NV>, step, finish};
};

}  // namespace fusedrnn::FUSEDRNN_ISA
