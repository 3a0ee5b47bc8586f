// The backends compiled in, and which one is in use.
#pragma once

#include <string>
#include <vector>

#include "backend/backend.hpp"

namespace fusedrnn {

// Those this machine can run, the slowest (scalar) first, the default last.
std::vector<const Backend*> available_backends();

// The one in use: the last set_backend, else FUSEDRNN_ISA, else the best. Throws std::runtime_error when FUSEDRNN_ISA
// names what is not available here: nothing else is used in its place.
const Backend& current_backend();

// Also "cuda", or "simt" where FUSEDRNN_CUDA_PLUGIN names the emulator: the same arrays in host memory, copied to the
// device and back in every call (staged.hpp). Throws std::invalid_argument when `name` is not available, and
// std::runtime_error when CUDA is not. Calls that are running keep the backend they began with.
void set_backend(const std::string& name);

}  // namespace fusedrnn
