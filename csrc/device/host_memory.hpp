// A device's table as one for host memory: each entry carries its arguments to the device, runs there and carries the
// results back. For tests and comparisons: NumPy arrays in and out, at the price of every copy. Never chosen unasked.
#pragma once

#include "backend/backend.hpp"

namespace fusedrnn {

// One device per process: later calls get the table of the first.
const Backend& staged(const Backend& device);

}  // namespace fusedrnn
