// What one row and unit of a step do once their sums are there: the cell, and where everything it reads and writes
// lies. Shared by all plans.
#pragma once

#include "math.cuh"
#include "recurrent/step.hpp"

namespace fusedrnn::cuda {

template <class T>
FR_DEVICE T load_or_zero(const void* data, int64_t i) {
  return data ? static_cast<const T*>(data)[i] : T(0);
}

// Where the carry lies that step s < length starts from; null for zero.
template <class C, class Step, class Direction>
FR_DEVICE const C* carry_before(const Step& a, const Direction& d, bool reverse, int64_t s, int64_t b, int64_t u,
                                int64_t length, int64_t carry_time) {
  if (a.walk.cut(s, b, length, reverse)) return nullptr;
  if (s == 0) return d.carry0 ? static_cast<const C*>(d.carry0) + b * a.carry0_stride + u : nullptr;
  return static_cast<const C*>(d.carry) + Walk::time(s - 1, length, reverse) * carry_time + b * a.H + u;
}

template <class C>
FR_DEVICE C value_or_zero(const C* p) {
  return p ? *p : C(0);
}

// Step s of unit u < H of row b from x W + b_ih and h R + b_hh of its gates and its carry. Writes what the step leaves
// behind; returns h as the operand of the next one and changes the carry to what that starts from, both 0 where the
// link between them is cut or the row ends.
template <class Cell, class E, class C>
FR_DEVICE E forward_cell(const ForwardStep& a, const ForwardDirection& d, bool reverse, int64_t s, int64_t b, int64_t u,
                         int64_t length, const C* x, const C* h, C& carry) {
  const int64_t t = Walk::time(s, length, reverse);
  C out = 0;
  if (s < length) {
    C tape[Cell::tape_blocks + 1];
    out = forward_of<Cell, C>(x, h, nullptr, C(carry), carry, tape);
    static_cast<C*>(d.carry)[t * a.carry_time + b * a.H + u] = carry;
    if (d.gates) {
      C* const gates = static_cast<C*>(d.gates) + (t * a.B + b) * Cell::tape_blocks * a.H + u;
      FR_UNROLL
      for (int k = 0; k < Cell::tape_blocks; ++k) gates[k * a.H] = tape[k];
    }
    if (s == length - 1) {
      static_cast<C*>(d.hn)[b * a.hn_stride + u] = out;
      if (Cell::separate_carry) static_cast<C*>(d.cn)[b * a.cn_stride + u] = carry;
    }
  }
  if (d.y.data) row_of<C>(d.y, t, b)[u] = out;
  const E stored = narrow<E>(out);
  if (d.hidden) static_cast<E*>(d.hidden)[(t * a.B + b) * a.hidden_stride + u] = stored;
  if (s + 1 < length && !a.walk.cut(s + 1, b, length, reverse)) return stored;
  carry = 0;
  return narrow<E>(C(0));
}

// take(k, where) for what step s < length of unit u < H of row b reads beside its product: x W + b_ih of gate k, which
// is there before the step before has ended.
template <class Cell, class C, class Take>
FR_DEVICE void forward_inputs(const ForwardStep& a, const ForwardDirection& d, int64_t b, int64_t u, const Take& take) {
  const C* const pre = static_cast<const C*>(d.pre) + b * Cell::gates * a.H + u;
  FR_UNROLL
  for (int g = 0; g < Cell::gates; ++g) take(g, pre + g * a.H);
}

// Unit u < H of row b; x[g] is x W + b_ih and h[g] R h + b_hh of gate g, all of them and the carry 0 past the length.
template <class Cell, class E>
FR_DEVICE void finish_forward(const ForwardStep& a, int direction, int64_t b, int64_t u, int64_t length,
                              const Accumulator<E>* x, const Accumulator<E>* h, Accumulator<E> carry) {
  const ForwardDirection& d = a.direction[direction];
  const E after = forward_cell<Cell, E>(a, d, direction == 1, a.s, b, u, length, x, h, carry);
  if (d.after) static_cast<E*>(d.after)[b * a.Hp + u] = after;
}

// The end of the walk for row b: sum is dgates of the first step times R.
template <class Cell, class C>
FR_DEVICE void finish_initial(const BackwardStep& a, int direction, int64_t b, int64_t u, C sum) {
  const BackwardDirection& d = a.direction[direction];
  const int64_t length = a.walk.length(b);
  C dh = 0, dc = 0;
  if (length == 0) {  // the final state is the initial one
    dh = load_or_zero<C>(d.dhn, b * a.dhn_stride + u);
    if (Cell::separate_carry) dc = load_or_zero<C>(d.dcn, b * a.dcn_stride + u);
  } else if (!a.walk.cut(0, b, length, direction == 1)) {
    const C dcarry = Cell::carry_gradient ? static_cast<const C*>(d.dcarry)[b * a.H + u] : C(0);
    dh = Cell::separate_carry ? sum : sum + dcarry;
    dc = dcarry;
  }
  if (d.dh0) static_cast<C*>(d.dh0)[b * a.dh0_stride + u] = dh;
  if (Cell::separate_carry && d.dc0) static_cast<C*>(d.dc0)[b * a.dc0_stride + u] = dc;
}

// Step s < length of unit u < H of row b from what forward kept of it, dy, and what step s + 1 hands back: `sum`, its
// dgates times R, and dcarry. Returns the dcarry that goes on.
template <class Cell, class C>
FR_DEVICE C backward_cell(const BackwardStep& a, const BackwardDirection& d, bool reverse, int64_t s, int64_t b,
                          int64_t u, int64_t length, const C* tape, C before, C carry, C dy, C sum, C dcarry, C* da) {
  const bool last = s == length - 1, cut = !last && a.walk.cut(s + 1, b, length, reverse);
  C dh = last ? load_or_zero<C>(d.dhn, b * a.dhn_stride + u) : cut ? C(0) : sum;
  if (d.dy.data) dh = dy + dh;
  if (last) dcarry = Cell::separate_carry ? load_or_zero<C>(d.dcn, b * a.dcn_stride + u) : C(0);
  if (cut || !Cell::carry_gradient) dcarry = 0;
  return backward_of<Cell, C>(tape, nullptr, before, carry, dh, dcarry, da);
}

// What step s < length of a unit of backward reads beside its product: what the tape has of it, the carry it started
// from and the one it ended with, dy, and the carry's gradient from step s + 1.
template <class Cell>
struct BackwardInputs {
  static constexpr int kBefore = Cell::tape_blocks, kCarry = kBefore + 1, kDy = kCarry + 1, kHanded = kDy + 1;
  static constexpr int kBeforeThePrevious = kHanded;  // so many are there before step s + 1 has ended
  static constexpr int kAll = kHanded + (Cell::carry_gradient ? 1 : 0);
};

// take(k, where) for those that are there before step s + 1 has ended, of unit u < H of row b; null for zero.
template <class Cell, class C, class Take>
FR_DEVICE void backward_inputs(const BackwardStep& a, const BackwardDirection& d, bool reverse, int64_t s, int64_t b,
                               int64_t u, int64_t length, const Take& take) {
  using In = BackwardInputs<Cell>;
  const int64_t t = Walk::time(s, length, reverse);
  FR_UNROLL
  for (int k = 0; k < Cell::tape_blocks; ++k)
    take(k, static_cast<const C*>(d.gates) + ((t * a.B + b) * Cell::tape_blocks + k) * a.H + u);
  take(In::kBefore, carry_before<C>(a, d, reverse, s, b, u, length, a.B * a.H));
  take(In::kCarry, static_cast<const C*>(d.carry) + (t * a.B + b) * a.H + u);
  take(In::kDy, d.dy.data ? row_of<const C>(d.dy, t, b) + u : nullptr);
}

// Where the carry's gradient lies that step s + 1 hands to step s < length; null for zero, of the last step.
template <class C>
FR_DEVICE const C* handed_carry(const BackwardStep& a, const BackwardDirection& d, int64_t b, int64_t u,
                                int64_t length) {
  return a.s + 1 < length ? static_cast<const C*>(d.dcarry) + b * a.H + u : nullptr;
}

// Unit u < Hp of row b; sum is dgates of step s + 1 times R, input(k) one of BackwardInputs where u < H and s < length.
// Padding, of rows past their length and of units past H, gets dgates of 0, for products run over it.
template <class Cell, class E, class Input>
FR_DEVICE void finish_backward(const BackwardStep& a, int direction, int64_t b, int64_t u, int64_t length,
                               Accumulator<E> sum, const Input& input) {
  using C = Accumulator<E>;
  using In = BackwardInputs<Cell>;
  constexpr int N = Cell::dgate_blocks;
  if (a.s < 0) {
    if (u < a.H) finish_initial<Cell, C>(a, direction, b, u, sum);
    return;
  }
  const BackwardDirection& d = a.direction[direction];
  C da[N] = {};
  if (u < a.H && a.s < length) {
    C tape[Cell::tape_blocks + 1];
    FR_UNROLL
    for (int k = 0; k < Cell::tape_blocks; ++k) tape[k] = input(k);
    const C handed = Cell::carry_gradient ? input(In::kHanded) : C(0);
    const C next = backward_cell<Cell>(a, d, direction == 1, a.s, b, u, length, tape, input(In::kBefore),
                                       input(In::kCarry), input(In::kDy), sum, handed, da);
    if (Cell::carry_gradient) static_cast<C*>(d.dcarry)[b * a.H + u] = next;
  }
  FR_UNROLL
  for (int k = 0; k < N; ++k) static_cast<E*>(d.dgates)[(b * N + k) * a.Hp + u] = narrow<E>(da[k]);
}

}  // namespace fusedrnn::cuda
