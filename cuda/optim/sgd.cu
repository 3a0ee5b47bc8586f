// Gradient descent, with momentum, Nesterov's too.
#include "optim/update.cuh"
//
#include "optim/sgd.hpp"

namespace fusedrnn::cuda {

Status launch_sgd(const UpdateTask& task, Stream stream) { return launch_update<Sgd>(task, stream); }

}  // namespace fusedrnn::cuda
