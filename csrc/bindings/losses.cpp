// Losses: arguments checked, targets looked through, loss and gradient allocated, the backend called.
#include <string>

#include "bindings/array.hpp"
#include "bindings/strided.hpp"
#include "dispatch/registry.hpp"
#include "runtime/error.hpp"
#include "runtime/team.hpp"

namespace fusedrnn {
namespace {

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

// Sets partials and results, runs, returns (loss, dpred).
py::tuple run(LossArgs& a, const Argument& pred, const std::vector<int64_t>& entries, int64_t chunks) {
  const bool whole = a.reduction != Reduction::none;
  double total = 0;
  const py::object losses = whole ? py::none() : py::object(fresh(pred.element(), entries, "loss"));
  const py::array dpred = fresh(pred.element(), pred.sizes(), "dpred");
  a.loss = whole ? &total : const_cast<void*>(py::array(losses).data());
  a.dpred = const_cast<void*>(dpred.data());
  const Backend& backend = current_backend();
  {
    py::gil_scoped_release release;
    const Workspace partials(backend, static_cast<size_t>(chunks) * sizeof(double));
    a.partials = partials.as<double>();
    TeamLease lease;
    check(backend, backend.loss(&a, lease.team()), "loss");
  }
  return py::make_tuple(whole ? py::object(py::float_(total)) : losses, dpred);
}

int64_t chunks_of(int64_t count, int64_t chunk) { return count / chunk + (count % chunk != 0); }

// Losses whose entries are elements. A mask has pred's shape, or its shape without the last axis.
py::tuple elementwise(LossKind kind, py::handle pred_object, py::handle target_object, const std::string& reduction,
                      py::handle mask_object, py::handle ignore_index) {
  const Argument pred = input("pred", pred_object, any_float, {{"..."}});
  const Argument target = input("target", target_object, pred.element(), {{"..."}});
  require_shape(target, pred.sizes());
  const Argument mask = optional_input("mask", mask_object, Element::boolean, {{"..."}});
  LossArgs a = {};
  a.kind = kind;
  a.reduction = reduction_of(reduction);
  a.dtype = pred.dtype();
  a.classes = 1;
  if (mask.present() && mask.sizes() != pred.sizes()) {
    if (pred.rank() == 0 || mask.sizes() != leading(pred))
      bad_value("mask", "of shape " + shape_text(pred.sizes()) + ", with or without the last axis",
                shape_text(mask.sizes()));
    a.classes = pred.sizes().back();
  }
  a.rows = a.classes == 0 ? 0 : pred.count() / a.classes;
  a.pred = elements_of(pred);
  a.target = elements_of(target);
  a.mask = elements_of(mask);
  set_ignore_index(a, ignore_index);
  return run(a, pred, pred.sizes(), chunks_of(pred.count(), kReduceChunk));
}

py::tuple mse(py::handle pred, py::handle target, const std::string& reduction, py::handle mask,
              py::handle ignore_index) {
  return elementwise(LossKind::mse, pred, target, reduction, mask, ignore_index);
}

py::tuple binary_cross_entropy(py::handle pred, py::handle target, const std::string& reduction, py::handle mask,
                               py::handle ignore_index) {
  return elementwise(LossKind::binary_cross_entropy, pred, target, reduction, mask, ignore_index);
}

// ValueError unless every class that counts exists.
void require_classes(const LossArgs& a) {
  Elements<int64_t> target(a.target);
  Elements<uint8_t> mask(a.mask);
  for (int64_t i = 0; i < a.rows; ++i) {
    const int64_t value = target.next();
    const bool counts = (!a.mask.data || mask.next() != 0) && !(a.has_ignore_index && value == a.ignore_index);
    if (counts && (value < 0 || value >= a.classes))
      bad_value("target", "in [0, " + std::to_string(a.classes) + ") where it counts",
                std::to_string(value) + " at flat index " + std::to_string(i));
  }
}

py::tuple cross_entropy(py::handle pred_object, py::handle target_object, const std::string& reduction,
                        py::handle mask_object, py::handle ignore_index) {
  const Argument pred = input("pred", pred_object, any_float, {{"..."}, {"classes"}});
  const bool probabilities =
      py::isinstance<py::array>(target_object) && py::cast<py::array>(target_object).dtype().kind() == 'f';
  const Argument target = input("target", target_object, probabilities ? pred.element() : Element::int64, {{"..."}});
  require_shape(target, probabilities ? pred.sizes() : leading(pred));
  const Argument mask = optional_input("mask", mask_object, Element::boolean, {{"..."}});
  if (mask.present()) require_shape(mask, leading(pred));
  LossArgs a = {};
  a.kind = probabilities ? LossKind::cross_entropy_probabilities : LossKind::cross_entropy_classes;
  a.reduction = reduction_of(reduction);
  a.dtype = pred.dtype();
  a.pred = rows_of(pred);
  a.rows = a.pred.rows;
  a.classes = a.pred.width;
  a.target = probabilities ? rows_of(target) : elements_of(target);
  a.mask = elements_of(mask);
  set_ignore_index(a, ignore_index);
  if (a.classes == 0) bad_value("pred", "of at least one class", shape_text(pred.sizes()));
  if (probabilities && a.has_ignore_index)
    bad_value("ignore_index", "None with probabilities as target (use mask)", std::to_string(a.ignore_index));
  if (!probabilities) require_classes(a);
  return run(a, pred, leading(pred), chunks_of(a.rows, kLossRows));
}

}  // namespace

void bind_losses(py::module_& m) {
  const auto add = [&](const char* name, auto function) {
    using py::arg;
    m.def(name, function, arg("pred"), arg("target"), arg("reduction"), arg("mask"), arg("ignore_index"));
  };
  add("mse", &mse);
  add("cross_entropy", &cross_entropy);
  add("binary_cross_entropy", &binary_cross_entropy);
}

}  // namespace fusedrnn
