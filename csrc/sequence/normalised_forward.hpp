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

// n = LN(x), from x's moments.
template <class T>
FR_INLINE void normalise(const T* x, const Moments& m, const T* weight, const T* bias, int64_t width, T* n) {
  const NormalRow<T> normal(x, m);
  for (int64_t i = 0; i < width; i += Wide::N) {
    const int64_t left = width - i;
    Wide::store(n + i, normal.at(i, left) * Wide::load(weight + i, left) + Wide::load(bias + i, left), left);
  }
}

template <class Cell, class E>
struct NormalisedForward {
  using T = typename E::Storage;
  using L = Lanes<typename E::Accumulator>;
  using V = typename L::V;
  using Row = ForwardRow<T>;
  static constexpr int N = L::N, G = Cell::gates, NV = panel_vectors<E>(G);
  static_assert(panel_units<E>(G) == 1, "a panel has the gates of one vector of units");
  static_assert(Cell::between_blocks == 2 * G && Cell::tape_blocks == 3 * G, "the rows below have these places");

  // Where a row keeps its gates, W x and R h: on the tape, or without one from step to step; a is in the gates' place.
  FR_INLINE static T* gates(const Row& row) { return row.gates ? row.gates : row.between; }
  FR_INLINE static T* from_x(const Row& row, int64_t H) { return row.gates ? row.gates + G * H : row.between; }
  FR_INLINE static T* from_h(const Row& row, int64_t H) { return from_x(row, H) + G * H; }

  static void step(const ForwardPart<E>& part, const PackedLayer<E>& weights, int64_t active, const T* pre) {
    const int64_t H = part.H;
    multiply<E, NV>(
        part.operand, active, weights.r, part.panels, H, part.first_panel, part.last_panel, part.memory,
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
    pre_activations(row, H, weights);
    // Behind W x and R h as far as they are not on the tape: both have been read.
    T *const made = row.between + G * H, *const seen = made + H, *const at = gates(row);
    for (int64_t unit = 0; unit < H; unit += N) {
      V a[G], tape[G];
#pragma GCC unroll 8
      for (int g = 0; g < G; ++g) a[g] = load_units(at + g * H, unit, H);
      store_units(made, unit, H, Cell::update(a, load_units(row.carry_prev, unit, H), tape));
#pragma GCC unroll 8
      for (int g = 0; g < G; ++g) store_units(at + g * H, unit, H, tape[g]);
    }
    const T* const own = weights.units;
    normalise(made, moments(made, H, Cell::eps), own + Cell::weight_c * H, own + Cell::bias_c * H, H, seen);
    for (int64_t unit = 0; unit < H; unit += N) {
      V tape[G];
#pragma GCC unroll 8
      for (int g = 0; g < G; ++g) tape[g] = load_units(at + g * H, unit, H);
      V h = Cell::output(tape, load_units(seen, unit, H)), carry = load_units(made, unit, H);
      if (row.masks) {
        const int count = static_cast<int>(H - unit < N ? H - unit : N);
        UnitMasks<E>::forward(*row.masks, unit, count, h, carry, load_units(row.carry_prev, unit, H));
      }
      store_units(row.h, unit, H, h);
      if (row.y) store_units(row.y, unit, H, h);
      if (row.hn) store_units(row.hn, unit, H, h);
      store_units(row.carry, unit, H, carry);
      if (row.cn) store_units(row.cn, unit, H, carry);
    }
  }

  // a into the place of the gates, which may be that of W x.
  FR_INLINE static void pre_activations(const Row& row, int64_t H, const PackedLayer<E>& weights) {
    const int64_t width = G * H;
    const T *const x = from_x(row, H), *const h = from_h(row, H);
    const T *const weight_x = weights.units + Cell::weight_ih * H, *const weight_h =
                                                                       weights.units + Cell::weight_hh * H;
    const NormalRow<T> normal_x(x, moments(x, width, Cell::eps)), normal_h(h, moments(h, width, Cell::eps));
    T* const a = gates(row);
    for (int64_t i = 0; i < width; i += Wide::N) {
      const int64_t left = width - i;
      const Wide part_x = normal_x.at(i, left) * Wide::load(weight_x + i, left);
      const Wide part_h = normal_h.at(i, left) * Wide::load(weight_h + i, left);
      Wide::store(a + i, part_x + (part_h + Wide::load(weights.shift + i, left)), left);
    }
  }

  static constexpr ForwardKernels<E> kernels = {input_product<E, NV>, step, finish};
};

}  // namespace fusedrnn::FUSEDRNN_ISA
