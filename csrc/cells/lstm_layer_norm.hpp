// Long short-term memory with layer normalisation (Ba et al. 2016, equations 20 to 22): W x, R h and what h sees of c
// are normalised over a row's units. The mathematics of a unit is the LSTM's, in its two halves; how a row is
// normalised is sequence/normalised_forward.hpp's and normalised_backward.hpp's.
#pragma once

#include "cells/lstm.hpp"

namespace fusedrnn {

template <class M>
struct LayerNormLstm : Lstm<M> {
  static constexpr int tape_blocks = 12;  // gates, and W x and R h before they are normalised
  static constexpr const char* tape_names = "i f g o x_i x_f x_g x_o h_i h_f h_g h_o";
  static constexpr int row_values = 6;      // mean, what its rounding left, and 1 / s of W x; of R h
  static constexpr int between_blocks = 8;  // W x, R h
  static constexpr bool normalises = true;
  static constexpr double eps = 1e-5;  // added to a variance
  static constexpr WeightSpecs weights =
      with_norm(with_norm(with_norm(gate_weights(4), "weight_ln_ih", "bias_ln_ih", 4), "weight_ln_hh", "bias_ln_hh", 4),
                "weight_ln_c", "bias_ln_c", 1);
  static constexpr int unit_values = 18;
  // Where they begin among these.
  static constexpr int weight_ih = 0, bias_ih = 4, weight_hh = 8, bias_hh = 12, weight_c = 16, bias_c = 17;
  // Gradients of W x, of R h; of a, the sum of both once normalised, which all biases have; a times each of them
  // normalised; of c normalised, times that, and by itself.
  static constexpr int dgate_blocks = 22, product_blocks = 8;
  static constexpr int x_first = 0, h_first = 4;
  static constexpr int da_first = 8, by_x_first = 12, by_h_first = 16, by_c = 20, dn = 21;
  FR_FN static constexpr int bias_block(int gate) { return da_first + gate; }
  FR_FN static constexpr int unit_block(int k) {
    if (k >= weight_c) return k == weight_c ? by_c : dn;
    return k < bias_ih     ? by_x_first + k
           : k < weight_hh ? da_first + k - bias_ih
           : k < bias_hh   ? by_h_first + k - weight_hh
                           : da_first + k - bias_hh;
  }
};

}  // namespace fusedrnn
