// A loss's arguments, checked; shared by the separate calls and the training step.
#pragma once

#include <string>
#include <vector>

#include "bindings/arrays/strided.hpp"

namespace fusedrnn {

// What a loss has to know of pred.
struct Prediction {
  DType dtype;
  std::vector<int64_t> sizes;
  Strided rows, elements;
  const Backend* device = nullptr;  // where all arrays of the call are, nullptr for NumPy's
};

// Everything but pointers to results and scratch. `name` is that of the function: "mse", "binary_cross_entropy" or
// "cross_entropy". Classes are not looked at: see checks.hpp.
LossArgs loss_arguments(const std::string& name, const Prediction& pred, py::handle target, py::handle mask,
                        const std::string& reduction, py::handle ignore_index);

}  // namespace fusedrnn
