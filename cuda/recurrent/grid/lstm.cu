// The LSTM cell's kernels of the plan `grid`.
#include "cells/lstm.hpp"

#include "recurrent/grid/grid.cuh"

namespace fusedrnn::cuda {

GridSteps lstm_grid() { return grid_of<Lstm>(); }

}  // namespace fusedrnn::cuda
