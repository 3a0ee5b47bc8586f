// Gated recurrent unit (Cho et al. 2014) in the reset-after form of PyTorch and cuDNN.
#pragma once

#include "cells/cell.hpp"

namespace fusedrnn {

template <class M>
struct Gru {
  using V = typename M::V;
  static constexpr const char* family = "gru";
  static constexpr int gates = 3;
  static constexpr const char* gate_names = "r z n";
  static constexpr int gated_gates = 0;
  static constexpr int tape_blocks = 4;
  static constexpr const char* tape_names = "r z n q";
  static constexpr int row_values = 0;
  static constexpr int between_blocks = 0;
  static constexpr bool normalises = false;
  static constexpr WeightSpecs weights = gate_weights(gates);
  static constexpr int unit_values = 0;
  static constexpr bool separate_carry = false;  // the carry is h
  static constexpr bool carry_gradient = true;   // h' = (1 - z) n + z h: the path z h
  static constexpr int dgate_blocks = 4;         // n_x r z n_h: n's two parts differ by the factor r
  static constexpr int x_first = 0, h_first = 1;
  FR_FN static constexpr int x_gate(int k) { return k == 0 ? 2 : k - 1; }
  FR_FN static constexpr int h_gate(int k) { return k; }

  FR_FN static V forward(const V* x, const V* h, V carry_prev, V& carry, V* tape) {
    const V r = M::sigmoid(x[0] + h[0]);
    const V z = M::sigmoid(x[1] + h[1]);
    const V q = h[2];
    const V n = M::tanh(M::fma(r, q, x[2]));
    tape[0] = r;
    tape[1] = z;
    tape[2] = n;
    tape[3] = q;
    carry = M::fma(z, carry_prev - n, n);
    return carry;
  }

  FR_FN static V backward(const V* tape, V carry_prev, V /*carry*/, V dh, V& dcarry, V* da) {
    const V r = tape[0], z = tape[1], n = tape[2], q = tape[3];
    const V d = dh + dcarry;
    const V dn = d * (M::constant(1.0) - z) * M::tanh_slope(n);
    da[0] = dn;
    da[1] = dn * q * M::sigmoid_slope(r);
    da[2] = d * (carry_prev - n) * M::sigmoid_slope(z);
    da[3] = dn * r;
    return d * z;
  }
};

}  // namespace fusedrnn
