// The Elman cell's kernels of the plan `grid`, tanh and relu.
#include "cells/rnn.hpp"
#include "recurrent/grid/grid.cuh"

namespace fusedrnn::cuda {

GridSteps rnn_tanh_grid() { return grid_of<ElmanTanh>(); }
GridSteps rnn_relu_grid() { return grid_of<ElmanRelu>(); }

}  // namespace fusedrnn::cuda
