// The Elman cell's steps, tanh and relu.
#include "cells/rnn.hpp"
#include "recurrent/step.cuh"

namespace fusedrnn::cuda {

CellSteps rnn_tanh_steps() { return steps_of<ElmanTanh>(); }
CellSteps rnn_relu_steps() { return steps_of<ElmanRelu>(); }

}  // namespace fusedrnn::cuda
