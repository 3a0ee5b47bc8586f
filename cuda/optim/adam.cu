// Adam and AdamW.
#include "optim/update.cuh"
//
#include "optim/adam.hpp"

namespace fusedrnn::cuda {

Status launch_adam(const UpdateTask& task, Stream stream) { return launch_update<Adam>(task, stream); }

}  // namespace fusedrnn::cuda
