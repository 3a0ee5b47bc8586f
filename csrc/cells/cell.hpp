// What every cell header shares. A cell is a struct template over a math policy M and knows nothing of time, batch,
// memory or threads; M supplies
//
//   V                        the value: lanes of float or double, one float on a GPU, complex<double> in a proof
//   constant(double)         V with that value
//   fma(a, b, c)             a * b + c
//   sigmoid(x), tanh(x)      the activations
//   sigmoid_slope(s)         d sigmoid / dx where sigmoid(x) = s:  s - s^2 for the logistic function
//   tanh_slope(t)            d tanh / dx where tanh(x) = t:        1 - t^2
//   relu(x), relu_grad(h, dh)   max(x, 0);  dh where relu(x) = h is not zero, else 0
//
// and V has + - *. Slopes belong to M because they go with its activations: a policy with hard sigmoids brings its own.
//
// Facts that a cell declares, which all else iterates (list.hpp names the cells):
//
//   family            the name of its functions and modules: a family's cells differ by a variant, which is the rest of
//                     a cell's name ("rnn" has "rnn_tanh" and "rnn_relu")
//   gates             pre-activations per unit, in PyTorch's order
//   gate_names        their names in that order, divided by spaces
//   tape_blocks       values per unit and step that backward needs besides the carries
//   tape_names        their names, likewise
//   weights           what a layer and direction has of weights: names, roles, shapes, in the order of Python's lists
//   unit_values       values of its own that a unit reads besides gates, all per_unit weights together: 0 for most
//
// Interface of a cell (README.md has the equations):
//
//   separate_carry    the carry is a state of its own (c of an LSTM); otherwise it is h
//   carry_gradient    backward hands a gradient to the carry of step t - 1 besides what flows through the gates
//   dgate_blocks      gradients of pre-activations per unit; those of the input part are the `gates` blocks from
//                     x_first on, those of the recurrent part the ones from h_first on
//   x_gate(k), h_gate(k)   which gate the k-th block of either part belongs to
//   forward(x, h, carry_prev, carry, tape)          returns h_t; x[g], h[g] are W x + b_ih and R h + b_hh of gate g
//   backward(tape, carry_prev, carry, dh, dcarry, da)   dh: all of the gradient of h_t but the cell's own direct path,
//                     which comes in as dcarry; fills da, returns the dcarry of step t - 1
//
// A cell with unit_values > 0, a peephole LSTM, say, takes `const V* units` behind h in forward and behind tape in
// backward: its values, those of one weight after those of another in the order of `weights`. Its last unit_values
// blocks of da are what this step adds to the gradients of these values; they are summed over steps and rows as a
// bias's are. Time loops call a cell through forward_of and backward_of, for which unit_values is a constant: a cell
// that has none neither names units nor pays for them.
#pragma once

#include <stdint.h>

#if defined(__CUDACC__)
#define FR_FN __host__ __device__ __forceinline__
#else
#define FR_FN inline __attribute__((always_inline))
#endif

namespace fusedrnn {

// What a weight is to its cell, which fixes its shape in a layer of I inputs and H units.
enum class WeightRole : int32_t {
  input = 0,       // W (blocks * H, I)
  recurrent,       // R (blocks * H, H)
  input_bias,      // b_ih (blocks * H), absent where a stack has no bias
  recurrent_bias,  // b_hh (blocks * H), likewise
  per_unit,        // (blocks * H): values that the cell itself reads
};
inline constexpr const char* kWeightRoles[] = {"input", "recurrent", "input_bias", "recurrent_bias", "per_unit"};

struct WeightSpec {
  const char* name;  // Python appends _l0, _l0_reverse
  WeightRole role;
  int32_t blocks;
};

// As many as any cell has; more do not compile.
constexpr int32_t kMaxWeights = 6, kMaxGates = 4;

struct WeightSpecs {
  int32_t count;
  WeightSpec spec[kMaxWeights];
};

// Where the four weights are that every cell has: they come first.
constexpr int32_t kWeightIh = 0, kWeightHh = 1, kBiasIh = 2, kBiasHh = 3, kGateWeights = 4;

FR_FN constexpr WeightSpecs gate_weights(int32_t gates) {
  return {kGateWeights,
          {{"weight_ih", WeightRole::input, gates},
           {"weight_hh", WeightRole::recurrent, gates},
           {"bias_ih", WeightRole::input_bias, gates},
           {"bias_hh", WeightRole::recurrent_bias, gates}}};
}

// The same and a weight of the units' own behind them.
FR_FN constexpr WeightSpecs with_unit_weight(WeightSpecs weights, const char* name, int32_t blocks) {
  weights.spec[weights.count++] = {name, WeightRole::per_unit, blocks};
  return weights;
}

// A cell's forward and backward, with `units` where it takes them.
template <class Cell, class V>
FR_FN V forward_of(const V* x, const V* h, const V* units, V carry_prev, V& carry, V* tape) {
  if constexpr (Cell::unit_values > 0)
    return Cell::forward(x, h, units, carry_prev, carry, tape);
  else
    return Cell::forward(x, h, carry_prev, carry, tape);
}

template <class Cell, class V>
FR_FN V backward_of(const V* tape, const V* units, V carry_prev, V carry, V dh, V dcarry, V* da) {
  if constexpr (Cell::unit_values > 0)
    return Cell::backward(tape, units, carry_prev, carry, dh, dcarry, da);
  else
    return Cell::backward(tape, carry_prev, carry, dh, dcarry, da);
}

}  // namespace fusedrnn
