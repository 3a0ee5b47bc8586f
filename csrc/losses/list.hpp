// Every loss with its facts. Everything else iterates this list: the enum and the tables of backend/, switches of
// kernels, the bindings and Python. CMake reads it too, a line at a time, for the instances of CUDA's kernels.
//
// ELEMENT(kind, Type, header, weights, threshold): entries are elements, and target is like pred. `kind` is the loss's
// name in Python, Type the policy of elementwise.hpp.
//
// ROW(kind, function, target, weights, smoothing): entries are rows of classes. `function` is the loss's name in Python
// and in C++, behind run_ and launch_. Kinds that share one differ in the target, and in nothing else: `index`, the
// class of each row as int64, or `numbers`, like pred.
//
// The rest are options, by the name that callers know them by, or `none` where the loss has no such option:
//
//   weights     numbers >= 0, one for each class or place of the last axis; a Type that has them is `weighted`
//   threshold   a number > 0 where a parabola becomes a line; a Type that has one `bends`
//   smoothing   label_smoothing, or none
#pragma once

#define FUSEDRNN_LOSSES(ELEMENT, ROW)                                                       \
  ELEMENT(mse, Mse, mse, none, none)                                                        \
  ROW(cross_entropy_classes, cross_entropy, index, weight, label_smoothing)                 \
  ROW(cross_entropy_probabilities, cross_entropy, numbers, weight, label_smoothing)         \
  ELEMENT(binary_cross_entropy, BinaryCrossEntropy, binary_cross_entropy, pos_weight, none) \
  ELEMENT(l1, L1, l1, none, none)                                                           \
  ELEMENT(huber, Huber, huber, none, delta)                                                 \
  ELEMENT(smooth_l1, SmoothL1, smooth_l1, none, beta)                                       \
  ROW(nll, nll, index, weight, none)
