// Gated recurrent unit (Cho et al. 2014) as published: the reset gate acts on h before its product with R_n. Keras
// calls it reset_after=False, ONNX linear_before_reset=0.
#pragma once

#include "cells/cell.hpp"

namespace fusedrnn {

template <class M>
struct GruResetBefore {
  using V = typename M::V;
  static constexpr const char* family = "gru";
  static constexpr int gates = 3;
  static constexpr const char* gate_names = "r z n";
  static constexpr int gated_gates = 1;  // n
  static constexpr int tape_blocks = 3;
  static constexpr const char* tape_names = "r z n";
  static constexpr int row_values = 0;
  static constexpr bool normalises = false;
  static constexpr int between_blocks = 3;  // r h, and r z where there is no tape
  static constexpr WeightSpecs weights = gate_weights(gates);
  static constexpr int unit_values = 0;
  static constexpr bool separate_carry = false;  // the carry is h
  static constexpr bool carry_gradient = true;   // h' = (1 - z) n + z h: the path z h, and h through r h
  static constexpr int dgate_blocks = 3;         // r z n: both parts of each have the same gradient
  static constexpr int x_first = 0, h_first = 0;
  FR_FN static constexpr int x_gate(int k) { return k; }
  FR_FN static constexpr int h_gate(int k) { return k; }

  FR_FN static void open(const V* x, const V* h, V* tape) {
    tape[0] = M::sigmoid(x[0] + h[0]);
    tape[1] = M::sigmoid(x[1] + h[1]);
  }

  FR_FN static V gated(const V* tape, V seen) { return tape[0] * seen; }

  FR_FN static V close(V x, V h, V state, V* tape) {
    const V n = M::tanh(x + h);
    tape[2] = n;
    return M::fma(tape[1], state - n, n);
  }

  FR_FN static V backward_close(const V* tape, V state, V d, V* da) {
    const V z = tape[1], n = tape[2];
    da[1] = d * (state - n) * M::sigmoid_slope(z);
    da[2] = d * (M::constant(1.0) - z) * M::tanh_slope(n);
    return d * z;
  }

  FR_FN static V backward_open(const V* tape, V seen, V dgated, V* da) {
    const V r = tape[0];
    da[0] = dgated * seen * M::sigmoid_slope(r);
    return dgated * r;
  }
};

}  // namespace fusedrnn
