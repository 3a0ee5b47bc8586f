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
//   gated_gates       how many gates, the last ones, read a gated h, R (r h) + b_hh, which must wait for r: 0 for most
//   tape_blocks       values per unit and step that backward needs besides the carries
//   tape_names        their names, likewise
//   row_values        values per row and step that backward needs besides: 0 but for a cell that normalises
//   between_blocks    values per unit and row that the first part of a step leaves to the second (sequence/
//                     forward_step.hpp): 0 for a cell that takes a step in one
//   normalises        whether a step has a phase that normalises rows of units, see below
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
//                     which comes in as dcarry; fills da, returns the dcarry of step t - 1. A carry of its own leaves
//                     all of its gradient in dcarry, the one through h_t too
//   carry(tape, carry_prev)   of a cell with a separate carry: what forward made of it, to the bit, before zoneout
//
// A cell with gated_gates > 0, a GRU with the reset before the product, has in place of forward and backward the two
// halves of each, between which another product lies (sequence/gated_step.hpp). `seen` is h as products see it, after
// recurrent dropout:
//
//   open(x, h, tape)               the gates that read h itself, which are the tape's first blocks
//   gated(tape, seen)              returns what the product of the gated gates reads
//   close(x, h, state, tape)       the gated gate, from its two parts; returns h_t
//   backward_close(tape, state, d, da)    d: all of the gradient of h_t; fills da but for what gated() reads, returns
//                                  what the state of step t - 1 gets on the direct path
//   backward_open(tape, seen, dgated, da) dgated: of what gated() returned; fills the rest of da, returns the gradient
//                                  of `seen` on that way
//
// A cell with unit_values > 0, a peephole LSTM, say, takes `const V* units` behind h in forward and behind tape in
// backward: its values, those of one weight after those of another in the order of `weights`. Its last unit_values
// blocks of da are what this step adds to the gradients of these values; they are summed over steps and rows as a
// bias's are. Time loops call a cell through forward_of and backward_of, for which unit_values is a constant: a cell
// that has none neither names units nor pays for them.
//
// A cell whose weights have one of the role `projection` returns what is projected, u, and gets its gradient as dh;
// time loops compute h = W_hr u of P units behind it, the second part of a step, and dW_hr. Backward reads u from
//   output(tape, carry)   what forward returned, `carry` being as it made it
//
// A cell that normalises has no forward and backward of one unit: its two halves and the blocks of its dgates are
// lstm_layer_norm.hpp's, the phase between them sequence/normalised_forward.hpp's. Its biases are added behind that
// phase, so it says besides
//
//   product_blocks    the first of dgate_blocks, which meet weights; of the rest only the columns are summed
//   bias_block(g)     the block whose sums are the gradients of gate g's biases
//   unit_block(k)     likewise of the k-th of a unit's own values
#pragma once

#include <stdint.h>

#if defined(__CUDACC__)
#define FR_FN __host__ __device__ __forceinline__
#else
#define FR_FN inline __attribute__((always_inline))
#endif

namespace fusedrnn {

// What a weight is to its cell, which fixes its shape in a layer of I inputs and H units, whose state h has P units:
// as many, but where it is projected.
enum class WeightRole : int32_t {
  input = 0,       // W (blocks * H, I)
  recurrent,       // R (blocks * H, P)
  input_bias,      // b_ih (blocks * H), absent where a stack has no bias
  recurrent_bias,  // b_hh (blocks * H), likewise
  per_unit,        // (blocks * H): values that the cell itself reads
  projection,      // W_hr (P, H): what makes the P units of the state h of what the cell returns
};
inline constexpr const char* kWeightRoles[] = {"input",          "recurrent", "input_bias",
                                               "recurrent_bias", "per_unit",  "projection"};

struct WeightSpec {
  const char* name;  // Python appends _l0, _l0_reverse
  WeightRole role;
  int32_t blocks;
};

// As many as any cell has; more do not compile.
constexpr int32_t kMaxWeights = 10, kMaxGates = 4, kMaxDgateBlocks = 8, kMaxUnitValues = 18;

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

// The same and one behind them that projects h.
FR_FN constexpr WeightSpecs with_projection(WeightSpecs weights, const char* name) {
  weights.spec[weights.count++] = {name, WeightRole::projection, 1};
  return weights;
}

// Which of them projects h, -1 where none does.
FR_FN constexpr int32_t projection_of(const WeightSpecs& weights) {
  for (int32_t i = 0; i < weights.count; ++i)
    if (weights.spec[i].role == WeightRole::projection) return i;
  return -1;
}

// The weights, and those of a normalisation of so many blocks of units behind them.
FR_FN constexpr WeightSpecs with_norm(WeightSpecs weights, const char* weight, const char* bias, int32_t blocks) {
  return with_unit_weight(with_unit_weight(weights, weight, blocks), bias, blocks);
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
FR_FN V backward_of(const V* tape, const V* units, V carry_prev, V carry, V dh, V dcarry, V* da,
                    V* whole_dcarry = nullptr) {
  V dcarry_prev;
  if constexpr (Cell::unit_values > 0)
    dcarry_prev = Cell::backward(tape, units, carry_prev, carry, dh, dcarry, da);
  else
    dcarry_prev = Cell::backward(tape, carry_prev, carry, dh, dcarry, da);
  if (whole_dcarry) *whole_dcarry = dcarry;
  return dcarry_prev;
}

}  // namespace fusedrnn
