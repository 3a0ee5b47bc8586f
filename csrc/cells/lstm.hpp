// Long short-term memory (Hochreiter & Schmidhuber 1997) with forget gate (Gers et al. 2000).
#pragma once

#include "cells/cell.hpp"

namespace fusedrnn {

template <class M>
struct Lstm {
  using V = typename M::V;
  static constexpr const char* family = "lstm";
  static constexpr int gates = 4;
  static constexpr const char* gate_names = "i f g o";
  static constexpr int gated_gates = 0;
  static constexpr int tape_blocks = 4;  // tanh(c) is computed again
  static constexpr const char* tape_names = "i f g o";
  static constexpr int row_values = 0;
  static constexpr int between_blocks = 0;
  static constexpr bool normalises = false;
  static constexpr WeightSpecs weights = gate_weights(gates);
  static constexpr int unit_values = 0;
  static constexpr bool separate_carry = true;  // the carry is c
  static constexpr bool carry_gradient = true;
  static constexpr int dgate_blocks = 4;  // i f g o
  static constexpr int x_first = 0, h_first = 0;
  FR_FN static constexpr int x_gate(int k) { return k; }
  FR_FN static constexpr int h_gate(int k) { return k; }

  FR_FN static V forward(const V* x, const V* h, V carry_prev, V& carry, V* tape) {
    const V a[] = {x[0] + h[0], x[1] + h[1], x[2] + h[2], x[3] + h[3]};
    carry = update(a, carry_prev, tape);
    return output(tape, carry);
  }

  // Its two halves, between which a variant may do something to the carry: gates and carry from pre-activations a, and
  // h from what o is multiplied with the tanh of.
  FR_FN static V update(const V* a, V carry_prev, V* tape) {
    tape[0] = M::sigmoid(a[0]);
    tape[1] = M::sigmoid(a[1]);
    tape[2] = M::tanh(a[2]);
    tape[3] = M::sigmoid(a[3]);
    return carry(tape, carry_prev);
  }
  FR_FN static V output(const V* tape, V seen) { return tape[3] * M::tanh(seen); }

  FR_FN static V carry(const V* tape, V carry_prev) { return M::fma(tape[1], carry_prev, tape[0] * tape[2]); }

  FR_FN static V backward(const V* tape, V carry_prev, V carry, V dh, V& dcarry, V* da) {
    dcarry = output_backward(tape, carry, dh, dcarry, da);
    return update_backward(tape, carry_prev, dcarry, da);
  }

  // Those of output and update: da of o and `dseen` with what comes through h; da of i f g from all of the gradient of
  // the carry, and what of it goes on to the step before.
  FR_FN static V output_backward(const V* tape, V seen, V dh, V dseen, V* da) {
    const V o = tape[3], t = M::tanh(seen);
    da[3] = dh * t * M::sigmoid_slope(o);
    return M::fma(dh * o, M::tanh_slope(t), dseen);
  }
  FR_FN static V update_backward(const V* tape, V carry_prev, V dc, V* da) {
    const V i = tape[0], f = tape[1], g = tape[2];
    da[0] = dc * g * M::sigmoid_slope(i);
    da[1] = dc * carry_prev * M::sigmoid_slope(f);
    da[2] = dc * i * M::tanh_slope(g);
    return dc * f;
  }
};

}  // namespace fusedrnn
