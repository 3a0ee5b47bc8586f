// Every cell: a line adds one, X(kind, type), its header included above. The kind is its name in Python, which begins
// with the type's `family`; numbers follow the order. Everything else iterates this list: CMake reads it too, a line at
// a time, for the instances of CUDA's kernels.
#pragma once

#include "cells/gru.hpp"
#include "cells/gru_reset_before.hpp"
#include "cells/lstm.hpp"
#include "cells/lstm_layer_norm.hpp"
#include "cells/lstm_peephole.hpp"
#include "cells/lstm_projected.hpp"
#include "cells/rnn.hpp"

#define FUSEDRNN_CUDA_CELLS(X) \
  X(rnn_tanh, ElmanTanh)       \
  X(rnn_relu, ElmanRelu)       \
  X(gru, Gru)                  \
  X(lstm, Lstm)

// Cells on the CPU alone: those that see one unit at a time, and those that normalise rows of units by themselves.
#define FUSEDRNN_HOST_UNIT_CELLS(X)   \
  X(lstm_peephole, PeepholeLstm)      \
  X(gru_reset_before, GruResetBefore) \
  X(lstm_projected, ProjectedLstm)
#define FUSEDRNN_NORMALISING_CELLS(X) X(lstm_layer_norm, LayerNormLstm)
#define FUSEDRNN_HOST_CELLS(X) FUSEDRNN_HOST_UNIT_CELLS(X) FUSEDRNN_NORMALISING_CELLS(X)

#define FUSEDRNN_UNIT_CELLS(X) FUSEDRNN_CUDA_CELLS(X) FUSEDRNN_HOST_UNIT_CELLS(X)

#define FUSEDRNN_CELLS(X) FUSEDRNN_CUDA_CELLS(X) FUSEDRNN_HOST_CELLS(X)

namespace fusedrnn {

#define FUSEDRNN_KIND(kind, Type) kind,
enum class CellKind : int32_t { FUSEDRNN_CELLS(FUSEDRNN_KIND) };
#undef FUSEDRNN_KIND

}  // namespace fusedrnn
