// Losses: arguments checked, targets looked through, loss and gradient allocated, the backend called.
#include "bindings/ops/losses.hpp"

#include <string>

#include "backend/scratch.hpp"
#include "bindings/arrays/checks.hpp"
#include "bindings/arrays/device_array.hpp"
#include "bindings/call.hpp"
#include "runtime/error.hpp"

namespace fusedrnn {
namespace {

// Text, for what the binding would refuse with its signature, which helps no caller.
std::string text(const char* name, py::handle value, const std::string& must) {
  if (py::isinstance<py::str>(value)) return py::cast<std::string>(value);
  bad_type(name, must, std::string("of type ") + Py_TYPE(value.ptr())->tp_name);
}

const LossFacts& loss_named(py::handle name) {
  std::vector<const char*> names;  // each function's once
  for (const LossFacts& loss : kLosses)
    if (names.empty() || std::string(names.back()) != loss.name) names.push_back(loss.name);
  const std::string must = quoted(names, "or"), given = text("loss", name, must);
  for (const LossFacts& loss : kLosses)
    if (given == loss.name) return loss;
  bad_value("loss", must, "'" + given + "'");
}

constexpr const char* kReductions[] = {"none", "mean", "sum"};  // in the order of Reduction

Reduction reduction_named(py::handle name) {
  const std::string must = "'mean', 'sum' or 'none'", given = text("reduction", name, must);
  for (int32_t i = 0; i < 3; ++i)
    if (given == kReductions[i]) return static_cast<Reduction>(i);
  bad_value("reduction", must, "'" + given + "'");
}

LossSpec make_spec(py::handle loss, py::handle reduction, py::handle ignore_index) {
  LossSpec spec = {};
  spec.kind = loss_named(loss).kind;
  spec.reduction = reduction_named(reduction);
  if (!ignore_index.is_none()) {
    spec.has_ignore_index = 1;
    spec.ignore_index = integer("ignore_index", ignore_index, INT64_MIN, INT64_MAX);
  }
  return spec;
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

// The kind with the same function for a target of classes, or of numbers.
LossKind kind_for(LossKind kind, TargetType target) {
  const std::string name = facts_of(kind).name;
  for (const LossFacts& loss : kLosses)
    if (name == loss.name && loss.target == target) return loss.kind;
  bad_type("target", target == TargetType::index ? "of floating-point numbers" : "of integers", "not");
}

// Losses whose entries are rows of classes.
void set_rows(LossArgs& a, const Prediction& pred, py::handle target_object, py::handle mask_object) {
  const bool numbers = is_float(target_object);
  const Argument target =
      input("target", target_object, numbers ? element_of(pred.dtype) : Element::int64, {{"..."}}, pred.device);
  const std::vector<int64_t> entries = without_last(pred.sizes);
  require_shape(target, numbers ? pred.sizes : entries);
  const Argument mask = optional_input("mask", mask_object, Element::boolean, {{"..."}}, pred.device);
  if (mask.present()) require_shape(mask, entries);
  a.spec.kind = kind_for(a.spec.kind, numbers ? TargetType::numbers : TargetType::index);
  a.pred = pred.rows;
  a.rows = a.pred.rows;
  a.classes = a.pred.width;
  a.target = numbers ? rows_of(target) : elements_of(target);
  a.mask = elements_of(mask);
  if (a.classes == 0) bad_value("pred", "of at least one class", shape_text(pred.sizes));
  if (numbers && a.spec.has_ignore_index)
    bad_value("ignore_index", "None with probabilities as target (use mask)", std::to_string(a.spec.ignore_index));
}

// Allocates partials and results, runs, returns (loss, dpred).
py::tuple run(const LossSpec& spec, py::handle pred_object, py::handle target, py::handle mask) {
  const bool by_rows = facts_of(spec.kind).by_rows;
  const Backend* device = device_of(pred_object);
  const Argument pred = by_rows ? input("pred", pred_object, any_float, {{"..."}, {"classes"}}, device)
                                : input("pred", pred_object, any_float, {{"..."}}, device);
  const Prediction seen = {pred.dtype(), pred.sizes(), rows_of(pred), elements_of(pred), device};
  LossArgs a = loss_arguments(spec, seen, target, mask);
  require_classes(a, device);
  const bool whole = spec.reduction != Reduction::none;
  Scalar total(device, "loss");
  const Result losses =
      whole ? Result() : fresh_on(device, pred.element(), by_rows ? leading(pred) : pred.sizes(), "loss");
  const Result dpred = fresh_on(device, pred.element(), pred.sizes(), "dpred");
  a.loss = whole ? total.data() : losses.data;
  a.dpred = dpred.data;
  const Backend& backend = backend_of(device);
  {
    py::gil_scoped_release release;
    const Memory partials(backend, loss_partials(a) * sizeof(double), "partial sums");
    a.partials = partials.as<double>();
    CallStream on(device);
    check(backend, backend.losses->loss(&a, on.stream()), "loss");
    on.finish();
  }
  return py::make_tuple(whole ? total.object() : losses.object, dpred.object);
}

std::string text_of(const LossSpec& spec) {
  std::string text = "LossSpec('" + std::string(facts_of(spec.kind).name) + "', reduction='" +
                     kReductions[static_cast<int32_t>(spec.reduction)] + "'";
  if (spec.has_ignore_index) text += ", ignore_index=" + std::to_string(spec.ignore_index);
  return text + ")";
}

// Names of the functions, each once.
py::list names() {
  py::list all;
  for (const LossFacts& loss : kLosses)
    if (!all.contains(loss.name)) all.append(loss.name);
  return all;
}

}  // namespace

std::array<int64_t, 4> words_of(const LossSpec& spec) {
  const auto& [kind, reduction, has_ignore_index, ignore_index] = spec;  // all of it: else this does not compile
  return {static_cast<int64_t>(kind), static_cast<int64_t>(reduction), has_ignore_index, ignore_index};
}

LossArgs loss_arguments(const LossSpec& spec, const Prediction& pred, py::handle target, py::handle mask) {
  LossArgs a = {};
  a.spec = spec;
  a.dtype = pred.dtype;
  if (facts_of(spec.kind).by_rows)
    set_rows(a, pred, target, mask);
  else
    set_elementwise(a, pred, target, mask);
  return a;
}

void bind_losses(py::module_& m) {
  using py::arg;
  py::class_<LossSpec>(m, "LossSpec")
      .def(py::init(&make_spec), arg("loss"), arg("reduction") = "mean", arg("ignore_index") = py::none())
      .def_property_readonly("reduction",
                             [](const LossSpec& spec) { return kReductions[static_cast<int32_t>(spec.reduction)]; })
      .def_property_readonly("ignore_index",
                             [](const LossSpec& spec) {
                               return spec.has_ignore_index ? py::object(py::int_(spec.ignore_index)) : py::none();
                             })
      .def(
          "__eq__", [](const LossSpec& a, const LossSpec& b) { return words_of(a) == words_of(b); }, py::is_operator())
      .def("__hash__",
           [](const LossSpec& spec) {
             py::list words;
             for (const int64_t word : words_of(spec)) words.append(word);
             return py::hash(py::tuple(words));
           })
      .def("__repr__", &text_of);
  m.def("losses", &names);
  m.def("loss", &run, arg("spec"), arg("pred"), arg("target"), arg("mask"));
}

}  // namespace fusedrnn
