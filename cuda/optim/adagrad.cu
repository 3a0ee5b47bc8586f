// Adagrad.
#include "optim/update.cuh"
//
#include "optim/adagrad.hpp"

namespace fusedrnn::cuda {

Status launch_adagrad(const UpdateTask& task, Stream stream) { return launch_update<Adagrad>(task, stream); }

}  // namespace fusedrnn::cuda
