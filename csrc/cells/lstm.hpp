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
  static constexpr int between_blocks = 0;
  static constexpr WeightSpecs weights = gate_weights(gates);
  static constexpr int unit_values = 0;
  static constexpr bool separate_carry = true;  // the carry is c
  static constexpr bool carry_gradient = true;
  static constexpr int dgate_blocks = 4;  // i f g o
  static constexpr int x_first = 0, h_first = 0;
  FR_FN static constexpr int x_gate(int k) { return k; }
  FR_FN static constexpr int h_gate(int k) { return k; }

  FR_FN static V forward(const V* x, const V* h, V carry_prev, V& carry, V* tape) {
    const V i = M::sigmoid(x[0] + h[0]);
    const V f = M::sigmoid(x[1] + h[1]);
    const V g = M::tanh(x[2] + h[2]);
    const V o = M::sigmoid(x[3] + h[3]);
    tape[0] = i;
    tape[1] = f;
    tape[2] = g;
    tape[3] = o;
    carry = M::fma(f, carry_prev, i * g);
    return output(tape, carry);
  }

  FR_FN static V output(const V* tape, V carry) { return tape[3] * M::tanh(carry); }

  FR_FN static V carry(const V* tape, V carry_prev) { return M::fma(tape[1], carry_prev, tape[0] * tape[2]); }

  FR_FN static V backward(const V* tape, V carry_prev, V carry, V dh, V& dcarry, V* da) {
    const V i = tape[0], f = tape[1], g = tape[2], o = tape[3];
    const V t = M::tanh(carry);
    const V dc = M::fma(dh * o, M::tanh_slope(t), dcarry);
    dcarry = dc;
    da[0] = dc * g * M::sigmoid_slope(i);
    da[1] = dc * carry_prev * M::sigmoid_slope(f);
    da[2] = dc * i * M::tanh_slope(g);
    da[3] = dh * t * M::sigmoid_slope(o);
    return dc * f;
  }
};

}  // namespace fusedrnn
