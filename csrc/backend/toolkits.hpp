// For which drivers there are packages of the CUDA plugin.
#pragma once

namespace fusedrnn {

// Major versions of CUDA, the best first: fusedrnn-cuda13 installs the folder fusedrnn_cuda13, and so on. A driver runs
// what toolkits of its own major version and of older ones made.
constexpr int kCudaToolkits[] = {13, 12};

}  // namespace fusedrnn
