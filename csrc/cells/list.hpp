// Every cell: a line adds one, X(kind, type), its header included above. The kind is its name in Python, which begins
// with the type's `family`; numbers follow the order. Everything else iterates this list: CMake reads it too, a line at
// a time, for the instances of CUDA's kernels.
#pragma once

#include "cells/gru.hpp"
#include "cells/lstm.hpp"
#include "cells/lstm_peephole.hpp"
#include "cells/rnn.hpp"

#define FUSEDRNN_CUDA_CELLS(X) \
  X(rnn_tanh, ElmanTanh)       \
  X(rnn_relu, ElmanRelu)       \
  X(gru, Gru)                  \
  X(lstm, Lstm)

// Cells whose units have weights of their own, on the CPU alone.
#define FUSEDRNN_HOST_CELLS(X) X(lstm_peephole, PeepholeLstm)

#define FUSEDRNN_CELLS(X) FUSEDRNN_CUDA_CELLS(X) FUSEDRNN_HOST_CELLS(X)

namespace fusedrnn {

#define FUSEDRNN_KIND(kind, Type) kind,
enum class CellKind : int32_t { FUSEDRNN_CELLS(FUSEDRNN_KIND) };
#undef FUSEDRNN_KIND

}  // namespace fusedrnn
