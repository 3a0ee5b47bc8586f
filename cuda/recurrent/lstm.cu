// The LSTM cell's steps.
#include "cells/lstm.hpp"

#include "step.cuh"

namespace fusedrnn::cuda {

CellSteps lstm_steps() { return steps_of<Lstm>(); }

}  // namespace fusedrnn::cuda
