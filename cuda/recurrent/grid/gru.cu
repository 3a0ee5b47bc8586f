// The GRU cell's kernels of the plan `grid`.
#include "cells/gru.hpp"

#include "recurrent/grid/grid.cuh"

namespace fusedrnn::cuda {

GridSteps gru_grid() { return grid_of<Gru>(); }

}  // namespace fusedrnn::cuda
