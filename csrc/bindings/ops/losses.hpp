// A loss and its arguments, checked; shared by the separate calls and the training step.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "backend/loss_facts.hpp"
#include "bindings/arrays/device_array.hpp"
#include "bindings/arrays/strided.hpp"

namespace fusedrnn {

// Weights of classes, or of positive targets: a copy that nothing writes to, on a device made when it is first needed.
class LossWeights {
 public:
  explicit LossWeights(std::vector<double> values) : values_(std::move(values)) {}

  const std::vector<double>& values() const { return values_; }

  // Where the arrays of the call under way are, which reads them.
  const double* on(const Backend* device) const;

 private:
  const std::vector<double> values_;
  mutable std::optional<DeviceArray> there_;
};

// A loss as Python has it: its spec, and the array that cannot be in one. Equal where all words are.
struct Loss {
  Loss(const LossSpec& spec, std::shared_ptr<const LossWeights> weights);

  LossSpec spec;
  std::shared_ptr<const LossWeights> weights;  // nullptr: none
  std::vector<int64_t> words;                  // all of it as numbers
};

// What a loss has to know of pred.
struct Prediction {
  DType dtype;
  std::vector<int64_t> sizes;
  Strided rows, elements;
  const Backend* device = nullptr;  // where all arrays of the call are, nullptr for NumPy's
};

// Everything but pointers to results and scratch; of the kinds that the loss's function has, the one of such a target.
// Classes are not looked at: see checks.hpp.
LossArgs loss_arguments(const Loss& loss, const Prediction& pred, py::handle target, py::handle mask);

}  // namespace fusedrnn
