// A loss and its arguments, checked; shared by the separate calls and the training step.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "backend/loss_facts.hpp"
#include "bindings/arrays/strided.hpp"

namespace fusedrnn {

// A spec as numbers: equal where all of it is.
std::array<int64_t, 4> words_of(const LossSpec& spec);

// What a loss has to know of pred.
struct Prediction {
  DType dtype;
  std::vector<int64_t> sizes;
  Strided rows, elements;
  const Backend* device = nullptr;  // where all arrays of the call are, nullptr for NumPy's
};

// Everything but pointers to results and scratch; of the kinds that the spec's function has, the one of such a target.
// Classes are not looked at: see checks.hpp.
LossArgs loss_arguments(const LossSpec& spec, const Prediction& pred, py::handle target, py::handle mask);

}  // namespace fusedrnn
