// Long short-term memory with peepholes (Gers & Schmidhuber 2000): i and f see c of the step before, o sees that of its
// own step, each unit its own.
#pragma once

#include "cells/cell.hpp"

namespace fusedrnn {

template <class M>
struct PeepholeLstm {
  using V = typename M::V;
  static constexpr const char* family = "lstm";
  static constexpr int gates = 4;
  static constexpr const char* gate_names = "i f g o";
  static constexpr int tape_blocks = 4;  // tanh(c) is computed again
  static constexpr const char* tape_names = "i f g o";
  static constexpr WeightSpecs weights = with_unit_weight(gate_weights(gates), "weight_peephole", 3);  // i f o
  static constexpr int unit_values = 3;
  static constexpr bool separate_carry = true;  // the carry is c
  static constexpr bool carry_gradient = true;
  static constexpr int dgate_blocks = 7;  // i f g o, then the peepholes' i f o
  static constexpr int x_first = 0, h_first = 0;
  FR_FN static constexpr int x_gate(int k) { return k; }
  FR_FN static constexpr int h_gate(int k) { return k; }

  FR_FN static V forward(const V* x, const V* h, const V* units, V carry_prev, V& carry, V* tape) {
    const V i = M::sigmoid(M::fma(units[0], carry_prev, x[0] + h[0]));
    const V f = M::sigmoid(M::fma(units[1], carry_prev, x[1] + h[1]));
    const V g = M::tanh(x[2] + h[2]);
    carry = M::fma(f, carry_prev, i * g);
    const V o = M::sigmoid(M::fma(units[2], carry, x[3] + h[3]));
    tape[0] = i;
    tape[1] = f;
    tape[2] = g;
    tape[3] = o;
    return o * M::tanh(carry);
  }

  FR_FN static V backward(const V* tape, const V* units, V carry_prev, V carry, V dh, V dcarry, V* da) {
    const V i = tape[0], f = tape[1], g = tape[2], o = tape[3];
    const V t = M::tanh(carry);
    da[3] = dh * t * M::sigmoid_slope(o);
    const V dc = M::fma(dh * o, M::tanh_slope(t), M::fma(da[3], units[2], dcarry));
    da[0] = dc * g * M::sigmoid_slope(i);
    da[1] = dc * carry_prev * M::sigmoid_slope(f);
    da[2] = dc * i * M::tanh_slope(g);
    da[4] = da[0] * carry_prev;
    da[5] = da[1] * carry_prev;
    da[6] = da[3] * carry;
    return M::fma(dc, f, M::fma(da[0], units[0], da[1] * units[1]));
  }
};

}  // namespace fusedrnn
