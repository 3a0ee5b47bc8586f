// Mean squared error.
#include "losses/elementwise.cuh"
//
#include "losses/mse.hpp"

namespace fusedrnn::cuda {

Status launch_mse(const LossTask& task, Stream stream) { return launch_elementwise<Mse>("mse", task, stream); }

}  // namespace fusedrnn::cuda
