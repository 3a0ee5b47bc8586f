// Losses: arguments checked, targets looked through, loss and gradient allocated, the backend called.
#include "bindings/ops/losses.hpp"

#include <string>

#include "bindings/arrays/checks.hpp"
#include "bindings/arrays/device_array.hpp"
#include "bindings/call.hpp"
#include "runtime/error.hpp"
#include "training/loss.hpp"

namespace fusedrnn {
namespace {

// What is no text would be refused by the binding with its signature, which helps nobody.
std::string reduction_text(py::handle reduction) {
  if (py::isinstance<py::str>(reduction)) return py::cast<std::string>(reduction);
  bad_type("reduction", "'mean', 'sum' or 'none'", std::string("of type ") + Py_TYPE(reduction.ptr())->tp_name);
}

Reduction reduction_of(const std::string& name) {
  if (name == "none") return Reduction::none;
  if (name == "mean") return Reduction::mean;
  if (name == "sum") return Reduction::sum;
  bad_value("reduction", "'mean', 'sum' or 'none'", "'" + name + "'");
}

void set_ignore_index(LossArgs& a, py::handle ignore_index) {
  if (ignore_index.is_none()) return;
  a.has_ignore_index = 1;
  a.ignore_index = integer("ignore_index", ignore_index, INT64_MIN, INT64_MAX);
}

// Losses whose entries are elements. A mask has pred's shape, or its shape without the last axis.
void set_elementwise(LossArgs& a, const Prediction& pred, py::handle target_object, py::handle mask_object) {
  const Argument target = input("target", target_object, element_of(pred.dtype), {{"..."}}, pred.device);
  require_shape(target, pred.sizes);
  const Argument mask = optional_input("mask", mask_object, Element::boolean, {{"..."}}, pred.device);
  a.classes = 1;
  if (mask.present() && mask.sizes() != pred.sizes) {
    if (pred.sizes.empty() || mask.sizes() != without_last(pred.sizes))
      bad_value("mask", "of shape " + shape_text(pred.sizes) + ", with or without the last axis",
                shape_text(mask.sizes()));
    a.classes = pred.sizes.back();
  }
  a.rows = a.classes == 0 ? 0 : target.count() / a.classes;
  a.pred = pred.elements;
  a.target = elements_of(target);
  a.mask = elements_of(mask);
}

// Whether an array holds floating-point numbers, wherever it is.
bool is_float(py::handle array) {
  if (const DeviceArray* there = as_device_array(array)) return numpy_of(there->element()).kind() == 'f';
  return py::isinstance<py::array>(array) && py::cast<py::array>(array).dtype().kind() == 'f';
}

void set_cross_entropy(LossArgs& a, const Prediction& pred, py::handle target_object, py::handle mask_object) {
  const bool probabilities = is_float(target_object);
  const Argument target =
      input("target", target_object, probabilities ? element_of(pred.dtype) : Element::int64, {{"..."}}, pred.device);
  const std::vector<int64_t> entries = without_last(pred.sizes);
  require_shape(target, probabilities ? pred.sizes : entries);
  const Argument mask = optional_input("mask", mask_object, Element::boolean, {{"..."}}, pred.device);
  if (mask.present()) require_shape(mask, entries);
  a.kind = probabilities ? LossKind::cross_entropy_probabilities : LossKind::cross_entropy_classes;
  a.pred = pred.rows;
  a.rows = a.pred.rows;
  a.classes = a.pred.width;
  a.target = probabilities ? rows_of(target) : elements_of(target);
  a.mask = elements_of(mask);
  if (a.classes == 0) bad_value("pred", "of at least one class", shape_text(pred.sizes));
  if (probabilities && a.has_ignore_index)
    bad_value("ignore_index", "None with probabilities as target (use mask)", std::to_string(a.ignore_index));
}

// Allocates partials and results, runs, returns (loss, dpred).
py::tuple run(const std::string& name, py::handle pred_object, py::handle target, const std::string& reduction,
              py::handle mask, py::handle ignore_index) {
  const bool by_rows = name == "cross_entropy";
  const Backend* device = device_of(pred_object);
  const Argument pred = by_rows ? input("pred", pred_object, any_float, {{"..."}, {"classes"}}, device)
                                : input("pred", pred_object, any_float, {{"..."}}, device);
  const Prediction seen = {pred.dtype(), pred.sizes(), rows_of(pred), elements_of(pred), device};
  LossArgs a = loss_arguments(name, seen, target, mask, reduction, ignore_index);
  require_classes(a, device);
  const bool whole = a.reduction != Reduction::none;
  Scalar total(device, "loss");
  const Result losses =
      whole ? Result() : fresh_on(device, pred.element(), by_rows ? leading(pred) : pred.sizes(), "loss");
  const Result dpred = fresh_on(device, pred.element(), pred.sizes(), "dpred");
  a.loss = whole ? total.data() : losses.data;
  a.dpred = dpred.data;
  const Backend& backend = backend_of(device);
  {
    py::gil_scoped_release release;
    const Memory partials(backend, static_cast<size_t>(training::loss_chunks(a)) * sizeof(double), "partial sums");
    a.partials = partials.as<double>();
    CallStream on(device);
    check(backend, backend.losses->loss(&a, on.stream()), "loss");
    on.finish();
  }
  return py::make_tuple(whole ? total.object() : losses.object, dpred.object);
}

}  // namespace

LossArgs loss_arguments(const std::string& name, const Prediction& pred, py::handle target, py::handle mask,
                        const std::string& reduction, py::handle ignore_index) {
  LossArgs a = {};
  a.reduction = reduction_of(reduction);
  a.dtype = pred.dtype;
  set_ignore_index(a, ignore_index);
  if (name == "cross_entropy") {
    set_cross_entropy(a, pred, target, mask);
  } else {
    a.kind = name == "mse" ? LossKind::mse : LossKind::binary_cross_entropy;
    set_elementwise(a, pred, target, mask);
  }
  return a;
}

void bind_losses(py::module_& m) {
  using py::arg;
  for (const char* name : {"mse", "cross_entropy", "binary_cross_entropy"})
    m.def(
        name,
        [name](py::handle pred, py::handle target, py::handle reduction, py::handle mask, py::handle ignore_index) {
          return run(name, pred, target, reduction_text(reduction), mask, ignore_index);
        },
        arg("pred"), arg("target"), arg("reduction"), arg("mask"), arg("ignore_index"));
}

}  // namespace fusedrnn
