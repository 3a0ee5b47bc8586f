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

// What a step makes of a unit: h, the carry, and what backward needs besides.
template <class Cell, class C>
struct Made {
  C out = 0, carry = 0, tape[Cell::tape_blocks + 1] = {};
};

// x[g] is x W + b_ih and h[g] R h + b_hh of gate g. Without a branch, so that several items can be under way at once.
template <class Cell, class C>
FR_DEVICE Made<Cell, C> forward_cell(const C* x, const C* h, C carry) {
  Made<Cell, C> made;
  made.out = forward_of<Cell, C>(x, h, nullptr, carry, made.carry, made.tape);
  return made;
}

// Whether step s + 1 of row b starts from what step s has made, and not from zeros: the row goes on, and the link
// between the two is not cut.
FR_DEVICE bool goes_on(const ForwardStep& a, bool reverse, int64_t s, int64_t b, int64_t length) {
  return s + 1 < length && !a.walk.cut(s + 1, b, length, reverse);
}

// Stores value(i) of N neighbours side by side, aligned to all of them.
template <int N, class T, class Value>
FR_DEVICE void store_neighbours(T* to, const Value& value) {
  hw::Vec<T, N> all;
  FR_UNROLL
  for (int i = 0; i < N; ++i) all.v[i] = value(i);
  hw::store(reinterpret_cast<hw::Vec<T, N>*>(to), all);
}

// Writes what step s of units u to u + N - 1 < H of row b leaves behind for others than step s + 1; zeros past the
// length. N divides u and H.
template <class Cell, class E, int N, class C>
FR_DEVICE void leave(const ForwardStep& a, const ForwardDirection& d, bool reverse, int64_t s, int64_t b, int64_t u,
                     int64_t length, const Made<Cell, C>* made) {
  const int64_t t = Walk::time(s, length, reverse);
  const bool live = s < length;
  const auto out = [&](int i) { return live ? made[i].out : C(0); };
  const auto carry = [&](int i) { return made[i].carry; };
  if (live) {
    store_neighbours<N>(static_cast<C*>(d.carry) + (t * a.carry_time + b * a.H + u), carry);
    if (d.gates) {
      C* const gates = static_cast<C*>(d.gates) + ((t * a.B + b) * Cell::tape_blocks * a.H + u);
      FR_UNROLL
      for (int k = 0; k < Cell::tape_blocks; ++k)
        store_neighbours<N>(gates + k * a.H, [&](int i) { return made[i].tape[k]; });
    }
    if (s == length - 1) {
      FR_UNROLL
      for (int i = 0; i < N; ++i) {
        static_cast<C*>(d.hn)[b * a.hn_stride + u + i] = out(i);
        if (Cell::separate_carry) static_cast<C*>(d.cn)[b * a.cn_stride + u + i] = carry(i);
      }
    }
  }
  if (d.y.data) {
    C* const y = row_of<C>(d.y, t, b) + u;
    if (N == 1 || reinterpret_cast<uintptr_t>(y) % (N * sizeof(C)) == 0) {
      store_neighbours<N>(y, out);
    } else {  // the caller's, of any stride
      FR_UNROLL
      for (int i = 0; i < N; ++i) y[i] = out(i);
    }
  }
  if (d.hidden)
    store_neighbours<N>(static_cast<E*>(d.hidden) + ((t * a.B + b) * a.hidden_stride + u),
                        [&](int i) { return narrow<E>(out(i)); });
}

// take(k, where) for what step s < length of unit u < H of row b reads beside its product: x W + b_ih of gate k, which
// is there before the step before has ended.
template <class Cell, class C, class Take>
FR_DEVICE void forward_inputs(const ForwardStep& a, const ForwardDirection& d, int64_t b, int64_t u, const Take& take) {
  const C* const pre = static_cast<const C*>(d.pre) + b * Cell::gates * a.H + u;
  FR_UNROLL
  for (int g = 0; g < Cell::gates; ++g) take(g, pre + g * a.H);
}

// Units u to u + N - 1 < H of row b: writes all that the step has made of them. N divides u and H.
template <class Cell, class E, int N, class C>
FR_DEVICE void finish_forward(const ForwardStep& a, const ForwardDirection& d, bool reverse, int64_t b, int64_t u,
                              int64_t length, bool on, const Made<Cell, C>* made) {
  if (d.after)
    store_neighbours<N>(static_cast<E*>(d.after) + (b * a.Hp + u),
                        [&](int i) { return narrow<E>(on ? made[i].out : C(0)); });
  leave<Cell, E, N>(a, d, reverse, a.s, b, u, length, made);
}

// The end of the walk for row b: sum is dgates of the first step times R.
template <class Cell, class C>
FR_DEVICE void finish_initial(const BackwardStep& a, const BackwardDirection& d, bool reverse, int64_t b, int64_t u,
                              int64_t length, C sum) {
  C dh = 0, dc = 0;
  if (length == 0) {  // the final state is the initial one
    dh = load_or_zero<C>(d.dhn, b * a.dhn_stride + u);
    if (Cell::separate_carry) dc = load_or_zero<C>(d.dcn, b * a.dcn_stride + u);
  } else if (!a.walk.cut(0, b, length, reverse)) {
    const C dcarry = Cell::carry_gradient ? static_cast<const C*>(d.dcarry)[b * a.H + u] : C(0);
    dh = Cell::separate_carry ? sum : sum + dcarry;
    dc = dcarry;
  }
  if (d.dh0) static_cast<C*>(d.dh0)[b * a.dh0_stride + u] = dh;
  if (Cell::separate_carry && d.dc0) static_cast<C*>(d.dc0)[b * a.dc0_stride + u] = dc;
}

// The gradients of h and the carry that step s < length of units u to u + N - 1 of row b starts from: dy, and what step
// s + 1 hands back, `dh`, its dgates times R, and dcarry. Of units from H on these are anything.
template <class Cell, int N, class C>
FR_DEVICE void gradients_into(const BackwardStep& a, const BackwardDirection& d, bool reverse, int64_t s, int64_t b,
                              int64_t u, int64_t length, const C* dy, C* dh, C* dcarry) {
  const bool last = s == length - 1, cut = !last && a.walk.cut(s + 1, b, length, reverse);
  if (last) {
    FR_UNROLL
    for (int i = 0; i < N; ++i) {
      if (N > 1 && u + i >= a.H) break;
      dh[i] = load_or_zero<C>(d.dhn, b * a.dhn_stride + u + i);
      dcarry[i] = Cell::separate_carry ? load_or_zero<C>(d.dcn, b * a.dcn_stride + u + i) : C(0);
    }
  }
  FR_UNROLL
  for (int i = 0; i < N; ++i) {
    if (cut) dh[i] = 0;
    if (cut || !Cell::carry_gradient) dcarry[i] = 0;
    if (d.dy.data) dh[i] = dy[i] + dh[i];
  }
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

// What step s < length of a unit makes: its part of dgates and the carry's gradient for step s - 1. input(k) is one of
// BackwardInputs. Without a branch, as forward_cell.
template <class Cell, class C>
struct MadeBack {
  C da[Cell::dgate_blocks] = {}, dcarry = 0;
};
template <class Cell, class C, class Input>
FR_DEVICE MadeBack<Cell, C> backward_cell(const Input& input, C dh, C dcarry) {
  using In = BackwardInputs<Cell>;
  MadeBack<Cell, C> made;
  C tape[Cell::tape_blocks + 1];
  FR_UNROLL
  for (int k = 0; k < Cell::tape_blocks; ++k) tape[k] = input(k);
  made.dcarry = backward_of<Cell, C>(tape, nullptr, C(input(In::kBefore)), C(input(In::kCarry)), dh, dcarry, made.da);
  return made;
}

// Units u to u + N - 1 < Hp of row b, which is `live` in this step: writes all that it has made of them. Padding, of
// rows past their length and of units past H, gets dgates of 0, for products run over it. N divides u and Hp.
template <class Cell, class E, int N, class C>
FR_DEVICE void finish_backward(const BackwardStep& a, const BackwardDirection& d, int64_t b, int64_t u, bool live,
                               const MadeBack<Cell, C>* made) {
  constexpr int kBlocks = Cell::dgate_blocks;
  if (Cell::carry_gradient && live) {
    C* const dcarry = static_cast<C*>(d.dcarry) + (b * a.H + u);
    if (u < a.H && a.H % N == 0) {
      store_neighbours<N>(dcarry, [&](int i) { return made[i].dcarry; });
    } else {
      FR_UNROLL
      for (int i = 0; i < N; ++i)
        if (u + i < a.H) dcarry[i] = made[i].dcarry;
    }
  }
  E* const dgates = static_cast<E*>(d.dgates) + (b * kBlocks * a.Hp + u);
  FR_UNROLL
  for (int k = 0; k < kBlocks; ++k)
    store_neighbours<N>(dgates + k * a.Hp,
                        [&](int i) { return narrow<E>(live && u + i < a.H ? made[i].da[k] : C(0)); });
}

}  // namespace fusedrnn::cuda
