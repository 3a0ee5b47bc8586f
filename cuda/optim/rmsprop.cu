// RMSprop, plain and centred.
#include "optim/update.cuh"
//
#include "optim/rmsprop.hpp"

namespace fusedrnn::cuda {

Status launch_rmsprop(const UpdateTask& task, Stream stream) { return launch_update<RmsProp>(task, stream); }

}  // namespace fusedrnn::cuda
