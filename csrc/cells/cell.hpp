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
// Interface of a cell (README.md has the equations):
//
//   gates             pre-activations per unit, in PyTorch's order
//   tape_blocks       values per unit and step that backward needs besides the carries
//   separate_carry    the carry is a state of its own (c of an LSTM); otherwise it is h
//   carry_gradient    backward hands a gradient to the carry of step t - 1 besides what flows through the gates
//   dgate_blocks      gradients of pre-activations per unit; those of the input part are the `gates` blocks
//                     from x_first on, those of the recurrent part the ones from h_first on
//   x_gate(k), h_gate(k)   which gate the k-th block of either part belongs to
//   forward(x, h, carry_prev, carry, tape)          returns h_t; x[g], h[g] are W x + b_ih and R h + b_hh of gate g
//   backward(tape, carry_prev, carry, dh, dcarry, da)   dh: all of the gradient of h_t but the cell's own direct path,
//                     which comes in as dcarry; fills da, returns the dcarry of step t - 1
#pragma once

#if defined(__CUDACC__)
#define FR_FN __host__ __device__ __forceinline__
#else
#define FR_FN inline __attribute__((always_inline))
#endif
