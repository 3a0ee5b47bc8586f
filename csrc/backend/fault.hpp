// What a check of values on a device leaves behind.
#pragma once

#include "backend/types.hpp"

namespace fusedrnn {

// The first value that a check on a device found wrong, in the device's memory; all zeros: none yet. What a kernel
// reads beyond its range is never an address: such an id's row, such a class's loss and gradient are NaN, such an id
// adds nothing to a gradient, and a length is taken for the nearest right one.
struct Fault {
  int64_t what;   // CheckArgs::what of the check that found it
  int64_t index;  // in C order
  int64_t value;
};

}  // namespace fusedrnn
