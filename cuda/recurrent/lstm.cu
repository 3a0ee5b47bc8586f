// The LSTM cell's steps.
#include "cells/lstm.hpp"

#include "recurrent/step.cuh"

namespace fusedrnn::cuda {

CellSteps lstm_steps() { return steps_of<Lstm>(); }

}  // namespace fusedrnn::cuda
