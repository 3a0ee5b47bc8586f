// Layers of a training step from what the modules say of themselves.
#pragma once

#include <memory>
#include <vector>

#include "bindings/arrays/argument.hpp"
#include "training/layer.hpp"

namespace fusedrnn {

// A spec is a layer as Python describes it, (kind, options, weights): weights are (data, grad) pairs, None where
// absent, in the order of the layer's parameters. Kinds and options:
//
//   recurrent   cell, num_layers, num_directions, bias, batch_first, dropout, precision
//   linear      precision                    embedding   -
//   layer_norm  eps                          dropout     p
//   last        batch_first
//
// Arrays are the device's, or NumPy's with nullptr; they are added to `kept`, which must live as long as the layers.
// There is at least one layer, else ValueError.
std::vector<std::unique_ptr<training::Layer>> make_layers(const Backend& backend, const Backend* device, DType dtype,
                                                          const py::list& specs, std::vector<Argument>& kept);

}  // namespace fusedrnn
