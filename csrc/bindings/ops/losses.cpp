// Losses: arguments checked, targets looked through, loss and gradient allocated, the backend called.
#include "bindings/ops/losses.hpp"

#include <cmath>
#include <cstring>
#include <string>

#include "backend/scratch.hpp"
#include "bindings/arrays/checks.hpp"
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

// What an array of weights is called, nullptr where the loss takes none: of the classes, or of positive targets.
const char* weights_name(LossKind kind) {
  if (facts_of(kind).by_rows) return "weight";
  return kind == LossKind::binary_cross_entropy ? "pos_weight" : nullptr;
}

std::shared_ptr<const LossWeights> make_weights(LossKind kind, py::handle object) {
  if (object.is_none()) return nullptr;
  const char* name = weights_name(kind);
  if (!name) bad_value("weight", std::string("None with '") + facts_of(kind).name + "'", "not");
  const Argument given = input(name, object, Element::float64, {{"classes"}});
  std::vector<double> values(given.as<double>(), given.as<double>() + given.count());
  for (const double value : values)
    if (!std::isfinite(value) || value < 0) bad_value(name, "finite and >= 0", std::to_string(value));
  return std::make_shared<LossWeights>(std::move(values));
}

Loss make_loss(py::handle loss, py::handle reduction, py::handle ignore_index, py::handle label_smoothing,
               py::handle weight) {
  LossSpec spec = {};
  spec.kind = loss_named(loss).kind;
  spec.reduction = reduction_named(reduction);
  if (!ignore_index.is_none()) {
    spec.has_ignore_index = 1;
    spec.ignore_index = integer("ignore_index", ignore_index, INT64_MIN, INT64_MAX);
  }
  spec.label_smoothing = real("label_smoothing", label_smoothing, 0, 1);
  if (spec.label_smoothing != 0 && spec.kind != LossKind::cross_entropy_classes)
    bad_value("label_smoothing", std::string("0 with '") + facts_of(spec.kind).name + "'",
              std::to_string(spec.label_smoothing));
  return {spec, make_weights(spec.kind, weight)};
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

// The bits of a number, for words.
int64_t bits_of(double value) {
  int64_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
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

void set_weights(LossArgs& a, const LossWeights& weights, const Prediction& pred) {
  const auto count = static_cast<int64_t>(weights.values().size());
  const int64_t classes = pred.sizes.empty() ? 1 : pred.sizes.back();
  if (count != classes && (facts_of(a.spec.kind).by_rows || count != 1))
    bad_value(weights_name(a.spec.kind), "of shape " + shape_text({classes}), shape_text({count}));
  a.weight = weights.on(pred.device);
  a.weights = count;
}

// Allocates partials and results, runs, returns (loss, dpred).
py::tuple run(const Loss& loss, py::handle pred_object, py::handle target, py::handle mask) {
  const LossSpec& spec = loss.spec;
  const bool by_rows = facts_of(spec.kind).by_rows;
  const Backend* device = device_of(pred_object);
  const Argument pred = by_rows ? input("pred", pred_object, any_float, {{"..."}, {"classes"}}, device)
                                : input("pred", pred_object, any_float, {{"..."}}, device);
  const Prediction seen = {pred.dtype(), pred.sizes(), rows_of(pred), elements_of(pred), device};
  LossArgs a = loss_arguments(loss, seen, target, mask);
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

std::string text_of(const Loss& loss) {
  const LossSpec& spec = loss.spec;
  std::string text = "LossSpec('" + std::string(facts_of(spec.kind).name) + "', reduction='" +
                     kReductions[static_cast<int32_t>(spec.reduction)] + "'";
  if (spec.has_ignore_index) text += ", ignore_index=" + std::to_string(spec.ignore_index);
  if (spec.label_smoothing != 0)
    text += ", label_smoothing=" + py::cast<std::string>(py::repr(py::float_(spec.label_smoothing)));
  if (loss.weights)
    text +=
        std::string(", ") + weights_name(spec.kind) + "=" + std::to_string(loss.weights->values().size()) + " numbers";
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

const double* LossWeights::on(const Backend* device) const {
  if (device == nullptr) return values_.data();
  if (!there_ || &there_->backend() != device) {
    const auto count = static_cast<int64_t>(values_.size());
    DeviceArray copy(*device, Element::float64, {count}, "weight");
    copy.assign(py::array_t<double>(count, values_.data()));
    there_ = copy;
  }
  require_device("weight", *device, there_->device());
  there_->block()->use(Access::read);
  return static_cast<const double*>(there_->data());
}

Loss::Loss(const LossSpec& given, std::shared_ptr<const LossWeights> own) : spec(given), weights(std::move(own)) {
  const auto& [kind, reduction, has_ignore_index, ignore_index, label_smoothing] = spec;  // all of it: else this does
                                                                                          // not compile
  words = {static_cast<int64_t>(kind), static_cast<int64_t>(reduction), has_ignore_index, ignore_index,
           bits_of(label_smoothing)};
  if (weights)
    for (const double value : weights->values()) words.push_back(bits_of(value));
}

LossArgs loss_arguments(const Loss& loss, const Prediction& pred, py::handle target, py::handle mask) {
  LossArgs a = {};
  a.spec = loss.spec;
  a.dtype = pred.dtype;
  if (facts_of(a.spec.kind).by_rows)
    set_rows(a, pred, target, mask);
  else
    set_elementwise(a, pred, target, mask);
  if (loss.weights) set_weights(a, *loss.weights, pred);
  return a;
}

void bind_losses(py::module_& m) {
  using py::arg;
  py::class_<Loss>(m, "LossSpec")
      .def(py::init(&make_loss), arg("loss"), arg("reduction") = "mean", arg("ignore_index") = py::none(),
           arg("label_smoothing") = 0.0, arg("weight") = py::none())
      .def_property_readonly("reduction",
                             [](const Loss& loss) { return kReductions[static_cast<int32_t>(loss.spec.reduction)]; })
      .def_property_readonly("ignore_index",
                             [](const Loss& loss) {
                               return loss.spec.has_ignore_index ? py::object(py::int_(loss.spec.ignore_index))
                                                                 : py::none();
                             })
      .def(
          "__eq__", [](const Loss& a, const Loss& b) { return a.words == b.words; }, py::is_operator())
      .def("__hash__",
           [](const Loss& loss) {
             py::list words;
             for (const int64_t word : loss.words) words.append(word);
             return py::hash(py::tuple(words));
           })
      .def("__repr__", &text_of);
  m.def("losses", &names);
  m.def("loss", &run, arg("spec"), arg("pred"), arg("target"), arg("mask"));
}

}  // namespace fusedrnn
