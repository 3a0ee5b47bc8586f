// Elman's simple recurrent cell: h' = act(W x + b_ih + R h + b_hh), act = tanh or relu.
#pragma once

#include "cells/cell.hpp"

namespace fusedrnn {

template <class M>
struct Tanh {
  using V = typename M::V;
  FR_FN static V value(V a) { return M::tanh(a); }
  FR_FN static V gradient(V h, V dh) { return dh * M::tanh_slope(h); }
};

template <class M>
struct Relu {
  using V = typename M::V;
  FR_FN static V value(V a) { return M::relu(a); }
  FR_FN static V gradient(V h, V dh) { return M::relu_grad(h, dh); }
};

template <class M, template <class> class Activation>
struct Elman {
  using V = typename M::V;
  static constexpr const char* family = "rnn";
  static constexpr int gates = 1;
  static constexpr const char* gate_names = "h";
  static constexpr int gated_gates = 0;
  static constexpr int tape_blocks = 0;
  static constexpr const char* tape_names = "";
  static constexpr int row_values = 0;
  static constexpr int between_blocks = 0;
  static constexpr bool normalises = false;
  static constexpr WeightSpecs weights = gate_weights(gates);
  static constexpr int unit_values = 0;
  static constexpr bool separate_carry = false;
  static constexpr bool carry_gradient = false;
  static constexpr int dgate_blocks = 1;
  static constexpr int x_first = 0, h_first = 0;
  FR_FN static constexpr int x_gate(int k) { return k; }
  FR_FN static constexpr int h_gate(int k) { return k; }

  FR_FN static V forward(const V* x, const V* h, V /*carry_prev*/, V& carry, V* /*tape*/) {
    carry = Activation<M>::value(x[0] + h[0]);
    return carry;
  }

  FR_FN static V backward(const V* /*tape*/, V /*carry_prev*/, V carry, V dh, V& /*dcarry*/, V* da) {
    da[0] = Activation<M>::gradient(carry, dh);
    return M::constant(0.0);
  }
};

template <class M>
using ElmanTanh = Elman<M, Tanh>;
template <class M>
using ElmanRelu = Elman<M, Relu>;

}  // namespace fusedrnn
