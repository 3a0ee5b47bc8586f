// Binary cross-entropy on logits.
#include "losses/elementwise.cuh"
//
#include "losses/binary_cross_entropy.hpp"

namespace fusedrnn::cuda {

Status launch_binary_cross_entropy(const LossTask& task, Stream stream) {
  return launch_elementwise<BinaryCrossEntropy>("binary_cross_entropy", task, stream);
}

}  // namespace fusedrnn::cuda
