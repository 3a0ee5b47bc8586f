// Every loss with its facts. Everything else iterates this list: the enum and the tables of backend/, switches of
// kernels, the bindings and Python. CMake reads it too, a line at a time, for the instances of CUDA's kernels.
//
// ELEMENT(kind, Type, header): entries are elements, and target is like pred. `kind` is the loss's name in Python, Type
// the policy of elementwise.hpp.
//
// ROW(kind, function, target): entries are rows of classes. `function` is the loss's name in Python and in C++, behind
// run_ and launch_. Kinds that share one differ in the target: `index`, the class of each row as int64, or `numbers`,
// like pred.
#pragma once

#define FUSEDRNN_LOSSES(ELEMENT, ROW)                                     \
  ELEMENT(mse, Mse, mse)                                                  \
  ROW(cross_entropy_classes, cross_entropy, index)                        \
  ROW(cross_entropy_probabilities, cross_entropy, numbers)                \
  ELEMENT(binary_cross_entropy, BinaryCrossEntropy, binary_cross_entropy) \
  ELEMENT(l1, L1, l1)                                                     \
  ELEMENT(huber, Huber, huber)                                            \
  ELEMENT(smooth_l1, SmoothL1, smooth_l1)                                 \
  ROW(nll, nll, index)
