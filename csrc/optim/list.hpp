// Every update rule with its facts. Everything else iterates this list: the enum and the tables of backend/, switches
// of kernels, checks of the bindings and of Python. CMake reads it too, a line at a time, for the instances of CUDA's
// kernels.
//
// X(kind, Type, header) adds a rule; `kind` is its name in Python. Kinds may share a Type: it tells them apart, where
// it must, by OptimizerArgs::kind. FUSEDRNN_RULE_<kind>(SCALAR, STATE) says what an update is told and what it keeps:
//
//   SCALAR(name, default, range)  in the order of OptimizerArgs::scalar, lr first. The default is that of the class in
//                                 fusedrnn.optim; backend/rule_facts.hpp has the ranges.
//   STATE(name, kept_by)          in the order of Segment::state, by PyTorch's name. It is there where the scalar
//                                 `kept_by` is not 0; with `always`, always.
#pragma once

#define FUSEDRNN_RULES(X)      \
  X(sgd, Sgd, sgd)             \
  X(adagrad, Adagrad, adagrad) \
  X(rmsprop, RmsProp, rmsprop) \
  X(adam, Adam, adam)          \
  X(adamw, Adam, adam)

#define FUSEDRNN_RULE_sgd(SCALAR, STATE) \
  SCALAR(lr, 1e-3, non_negative)         \
  SCALAR(momentum, 0, non_negative)      \
  SCALAR(weight_decay, 0, non_negative)  \
  SCALAR(nesterov, 0, flag)              \
  STATE(momentum_buffer, momentum)

#define FUSEDRNN_RULE_adagrad(SCALAR, STATE) \
  SCALAR(lr, 1e-2, non_negative)             \
  SCALAR(lr_decay, 0, non_negative)          \
  SCALAR(weight_decay, 0, non_negative)      \
  SCALAR(eps, 1e-10, non_negative)           \
  STATE(sum, always)

#define FUSEDRNN_RULE_rmsprop(SCALAR, STATE) \
  SCALAR(lr, 1e-2, non_negative)             \
  SCALAR(alpha, 0.99, below_one)             \
  SCALAR(eps, 1e-8, non_negative)            \
  SCALAR(weight_decay, 0, non_negative)      \
  SCALAR(momentum, 0, non_negative)          \
  SCALAR(centered, 0, flag)                  \
  STATE(square_avg, always)                  \
  STATE(momentum_buffer, momentum)           \
  STATE(grad_avg, centered)

#define FUSEDRNN_RULE_adam(SCALAR, STATE) FUSEDRNN_RULE_ADAMS(SCALAR, STATE, 0)
#define FUSEDRNN_RULE_adamw(SCALAR, STATE) FUSEDRNN_RULE_ADAMS(SCALAR, STATE, 1e-2)
#define FUSEDRNN_RULE_ADAMS(SCALAR, STATE, decay) \
  SCALAR(lr, 1e-3, non_negative)                  \
  SCALAR(beta1, 0.9, below_one)                   \
  SCALAR(beta2, 0.999, below_one)                 \
  SCALAR(eps, 1e-8, non_negative)                 \
  SCALAR(weight_decay, decay, non_negative)       \
  SCALAR(bias_correction, 1, flag)                \
  SCALAR(amsgrad, 0, flag)                        \
  STATE(exp_avg, always)                          \
  STATE(exp_avg_sq, always)                       \
  STATE(max_exp_avg_sq, amsgrad)
