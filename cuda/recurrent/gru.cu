// The GRU cell's steps.
#include "cells/gru.hpp"

#include "recurrent/step.cuh"

namespace fusedrnn::cuda {

CellSteps gru_steps() { return steps_of<Gru>(); }

}  // namespace fusedrnn::cuda
