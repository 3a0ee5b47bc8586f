#include "bindings/training/layer_builder.hpp"

#include <pybind11/stl.h>

#include <cmath>
#include <string>
#include <utility>

#include "bindings/ops/sequence.hpp"
#include "training/layers.hpp"
#include "training/recurrent.hpp"

namespace fusedrnn {
namespace {

using namespace training;

// The arrays of one layer.
class WeightViews {
 public:
  WeightViews(const py::list& pairs, DType dtype, const Backend* device, std::vector<Argument>& kept) {
    for (const py::handle pair : pairs) {
      if (pair.is_none()) {
        weights_.emplace_back();
        sizes_.emplace_back();
        continue;
      }
      const py::tuple both = py::cast<py::tuple>(pair);
      const Argument data = input("weight", both[0], element_of(dtype), {{"..."}}, device);
      const Argument grad = optional_output("grad", both[1], element_of(dtype), {{"..."}}, device);
      data.require_contiguous();
      weights_.push_back({data.data(), grad.data()});
      sizes_.push_back(data.sizes());
      kept.push_back(data);
      kept.push_back(grad);
    }
  }

  const Weight& operator[](size_t i) const { return weights_[i]; }
  int64_t size(size_t i, size_t axis) const { return sizes_[i][axis]; }

 private:
  std::vector<Weight> weights_;
  std::vector<std::vector<int64_t>> sizes_;
};

std::unique_ptr<Layer> make_recurrent(const Backend& backend, const Backend* device, DType dtype,
                                      const py::dict& options, const WeightViews& weights) {
  SequenceDesc desc{};
  desc.cell = cell_named(py::cast<std::string>(options["cell"])).kind;
  desc.dtype = dtype;
  desc.precision = precision_named(py::cast<std::string>(options["precision"]));
  require_plan(desc, py::cast<std::string>(options["algo"]));
  desc.layers = py::cast<int32_t>(options["num_layers"]);
  desc.directions = py::cast<int32_t>(options["num_directions"]);
  desc.has_bias = py::cast<bool>(options["bias"]);
  desc.dropout = py::cast<double>(options["dropout"]);
  desc.dropout_per_sequence = py::cast<std::string>(options["dropout_mode"]) == "sequence";
  desc.recurrent_dropout = py::cast<double>(options["recurrent_dropout"]);
  const auto zoneout = py::cast<std::pair<double, double>>(options["zoneout"]);
  desc.zoneout_c = zoneout.first;
  desc.zoneout_h = zoneout.second;
  desc.weight_dropout = py::cast<double>(options["weight_dropout"]);
  desc.recompute = py::cast<int64_t>(options["recompute"]);
  require_regularisers(desc, device);
  require_recompute(desc, device);
  desc.I = weights.size(0, 1);
  desc.H = weights.size(1, 0) / traits(desc.cell).gates;
  desc.P = projected_units(desc, weights.size(1, 1), device);
  std::vector<LayerWeights> layer_weights(static_cast<size_t>(desc.layers * desc.directions));
  std::vector<LayerGrads> layer_grads(layer_weights.size());
  size_t i = 0;
  for (const StackWeight& weight : stack_weights(desc)) {
    const auto stack = static_cast<size_t>(weight.stack);
    layer_weights[stack].weight[weight.which] = {weights[i].data, weight.size.columns};
    layer_grads[stack].weight[weight.which] = weights[i++].grad;
  }
  return std::make_unique<RecurrentLayer>(backend, desc, py::cast<bool>(options["batch_first"]),
                                          std::move(layer_weights), std::move(layer_grads));
}

std::unique_ptr<Layer> make_layer(const Backend& backend, const Backend* device, DType dtype, const py::tuple& spec,
                                  std::vector<Argument>& kept) {
  const std::string kind = py::cast<std::string>(spec[0]);
  const py::dict options = py::cast<py::dict>(spec[1]);
  const WeightViews weights(py::cast<py::list>(spec[2]), dtype, device, kept);
  if (kind == "recurrent") return make_recurrent(backend, device, dtype, options, weights);
  if (kind == "linear")
    return std::make_unique<LinearLayer>(backend, dtype, precision_named(py::cast<std::string>(options["precision"])),
                                         weights.size(0, 0), weights[0], weights[1]);
  if (kind == "embedding")
    return std::make_unique<EmbeddingLayer>(backend, dtype, weights.size(0, 0), weights.size(0, 1), weights[0],
                                            py::cast<int64_t>(options["padding_idx"]));
  if (kind == "layer_norm")
    return std::make_unique<LayerNormLayer>(backend, dtype, py::cast<double>(options["eps"]), weights[0], weights[1]);
  if (kind == "dropout") return std::make_unique<DropoutLayer>(backend, dtype, py::cast<double>(options["p"]));
  if (kind == "last") return std::make_unique<LastLayer>(backend, dtype, py::cast<bool>(options["batch_first"]));
  bad_value("kind", "'recurrent', 'linear', 'embedding', 'layer_norm', 'dropout' or 'last'", "'" + kind + "'");
}

}  // namespace

std::vector<std::unique_ptr<Layer>> make_layers(const Backend& backend, const Backend* device, DType dtype,
                                                const py::list& specs, std::vector<Argument>& kept) {
  std::vector<std::unique_ptr<Layer>> layers;
  for (const py::handle spec : specs)
    layers.push_back(make_layer(backend, device, dtype, py::cast<py::tuple>(spec), kept));
  if (layers.empty()) bad_value("layers", "at least one", "none");
  return layers;
}

}  // namespace fusedrnn
