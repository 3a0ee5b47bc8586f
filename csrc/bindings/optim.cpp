// Optimizers: tables of segments, one update, the global norm, clipping.
#include <cmath>
#include <string>

#include "bindings/optim.hpp"
#include "bindings/strided.hpp"
#include "dispatch/registry.hpp"
#include "runtime/error.hpp"
#include "runtime/team.hpp"
#include "step/norm.hpp"

namespace fusedrnn {
namespace {

using step::Gradients;
using step::Norm;

OptimizerKind kind_of(const std::string& name) {
  if (name == "sgd") return OptimizerKind::sgd;
  if (name == "adagrad") return OptimizerKind::adagrad;
  if (name == "rmsprop") return OptimizerKind::rmsprop;
  if (name == "adam") return OptimizerKind::adam;
  if (name == "adamw") return OptimizerKind::adamw;
  bad_value("kind", "'sgd', 'adagrad', 'rmsprop', 'adam' or 'adamw'", "'" + name + "'");
}

// States of a rule: how many it may keep, how many of them, the first, it always keeps.
struct States {
  size_t slots, required;
};

States states_of(OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::sgd:
      return {1, 0};
    case OptimizerKind::adagrad:
      return {1, 1};
    case OptimizerKind::rmsprop:
      return {3, 1};
    default:
      return {2, 2};
  }
}

Argument gradient(py::handle value, Element element, const std::vector<int64_t>& sizes) {
  const Argument grad = input("grad", value, element, {{"..."}});
  require_shape(grad, sizes);
  grad.require_contiguous();
  return grad;
}

}  // namespace

Segments::Segments(const std::string& kind, const py::list& pieces) : kind_(kind_of(kind)) {
  for (const py::handle piece : pieces) {
    const py::tuple parts = py::cast<py::tuple>(piece);
    const Argument param = output("param", parts[0], pieces_.empty() ? any_float : pieces_[0].element(), {{"..."}});
    const Argument grad = gradient(parts[1], param.element(), param.sizes());
    Segment segment = {param.data(), grad.data(), {}, param.count()};
    const py::list given = py::cast<py::list>(parts[2]);
    const States expected = states_of(kind_);
    if (given.size() != expected.slots)
      bad_value("state", "of " + std::to_string(expected.slots) + " entries", std::to_string(given.size()));
    std::vector<Argument> states;
    for (const py::handle value : given) {
      const auto read = states.size() < expected.required ? output : optional_output;
      states.push_back(read("state", value, param.element(), {{"..."}}, nullptr));
      if (states.back().present()) require_shape(states.back(), param.sizes());
      segment.state[states.size() - 1] = states.back().data();
    }
    std::vector<const Argument*> outputs = {&param};
    for (const Argument& state : states) outputs.push_back(&state);
    disjoint(outputs, {&grad});
    segments_.push_back(segment);
    pieces_.push_back(param);
    pieces_.push_back(grad);
    pieces_.insert(pieces_.end(), states.begin(), states.end());
  }
}

OptimizerArgs update_of(const Segments& segments, const py::dict& scalars) {
  OptimizerArgs a = {};
  a.kind = segments.kind();
  a.dtype = segments.dtype();
  a.segments = static_cast<int64_t>(segments.segments().size());
  a.segment = segments.segments().data();
  const auto number = [&](const char* name, double otherwise) {
    return scalars.contains(name) ? py::cast<double>(scalars[name]) : otherwise;
  };
  a.lr = number("lr", NAN);
  a.weight_decay = number("weight_decay", 0);
  a.eps = number("eps", 0);
  a.beta1 = number("beta1", 0);
  a.beta2 = number("beta2", 0);
  a.momentum = number("momentum", 0);
  a.lr_decay = number("lr_decay", 0);
  a.nesterov = number("nesterov", 0) != 0;
  a.centered = number("centered", 0) != 0;
  a.bias_correction = number("bias_correction", 1) != 0;
  a.step = static_cast<int64_t>(number("step", 1));
  return a;
}

namespace {

void optimizer_step(const Segments& segments, const py::dict& scalars, py::handle clip_factor) {
  OptimizerArgs a = update_of(segments, scalars);
  const double factor = clip_factor.is_none() ? 1 : py::cast<double>(clip_factor);
  a.clip_factor = clip_factor.is_none() ? nullptr : &factor;
  const Backend& backend = current_backend();
  py::gil_scoped_release release;
  TeamLease lease;
  check(backend, backend.optimizer(&a, lease.team()), "optimizer_step");
}

// Gradients with the arrays they lie in.
struct Listed {
  Gradients gradients;
  std::vector<Argument> kept;
};

Listed listed(const py::list& grads, bool written) {
  Listed g;
  for (const py::handle value : grads) {
    const std::string name = "grads[" + std::to_string(g.kept.size()) + "]";
    Argument grad = written ? output(name, value, any_float, {{"..."}}) : input(name, value, any_float, {{"..."}});
    grad.require_contiguous();
    g.gradients.add({nullptr, grad.data(), {}, grad.count()}, grad.dtype());
    g.kept.push_back(grad);
  }
  return g;
}

Norm measure(const Backend& backend, const Gradients& g, double max_norm, Team* team) {
  const Workspace partials(backend, g.partials() * sizeof(double));
  return norm_of(backend, g, max_norm, partials.as<double>(), team);
}

// updates: tuples of a table, its scalars, and None or the arrays that are read instead of lr and step.
double clipped_update(const py::list& updates, double max_norm, bool skip_nonfinite) {
  std::vector<UpdateGroup> groups;
  std::vector<Argument> kept;
  int64_t chunks = 0;
  for (const py::handle update : updates) {
    const py::tuple parts = py::cast<py::tuple>(update);
    const Segments& table = py::cast<const Segments&>(parts[0]);
    UpdateGroup group = {update_of(table, py::cast<py::dict>(parts[1])), nullptr, nullptr};
    if (!parts[2].is_none()) {
      const py::tuple counters = py::cast<py::tuple>(parts[2]);
      kept.push_back(input("lr", counters[0], Element::float64, {{"1", 1}}));
      group.lr = static_cast<const double*>(kept.back().data());
      kept.push_back(output("steps", counters[1], Element::int64, {{"2", 2}}));
      group.steps = static_cast<int64_t*>(kept.back().data());
    }
    for (const Segment& s : table.segments()) chunks += s.count / kReduceChunk + 1;
    ++chunks;
    groups.push_back(group);
  }
  const Backend& backend = current_backend();
  py::gil_scoped_release release;
  const Workspace partials(backend, static_cast<size_t>(chunks) * sizeof(double));
  double norm = 0;
  const ClippedUpdateArgs a = {
      static_cast<int64_t>(groups.size()), groups.data(), max_norm, skip_nonfinite, &norm, partials.as<double>()};
  TeamLease lease;
  check(backend, backend.clipped_update(&a, lease.team()), "clipped_update");
  return norm;
}

double global_norm(const py::list& grads) {
  const Listed g = listed(grads, false);
  const Backend& backend = current_backend();
  py::gil_scoped_release release;
  TeamLease lease;
  return measure(backend, g.gradients, 1, lease.team()).norm;
}

double clip_by_global_norm(const py::list& grads, py::handle max_norm_object) {
  const double max_norm = real("max_norm", max_norm_object, 0, HUGE_VAL);
  const Listed g = listed(grads, true);
  const Backend& backend = current_backend();
  py::gil_scoped_release release;
  TeamLease lease;
  const Norm norm = measure(backend, g.gradients, max_norm, lease.team());
  for (int d = 0; d < 2; ++d)
    check(backend,
          backend.scale(d == 0 ? DType::float32 : DType::float64, static_cast<int64_t>(g.gradients.of[d].size()),
                        g.gradients.of[d].data(), &norm.factor, lease.team()),
          "clip_by_global_norm");
  return norm.norm;
}

void clip_by_value(const py::list& grads, py::handle limit_object) {
  const double limit = real("limit", limit_object, 0, HUGE_VAL);
  const Listed g = listed(grads, true);
  const Backend& backend = current_backend();
  py::gil_scoped_release release;
  TeamLease lease;
  for (int d = 0; d < 2; ++d)
    check(backend,
          backend.clip_value(d == 0 ? DType::float32 : DType::float64, static_cast<int64_t>(g.gradients.of[d].size()),
                             g.gradients.of[d].data(), limit, lease.team()),
          "clip_by_value");
}

}  // namespace

void bind_optim(py::module_& m) {
  using py::arg;
  py::class_<Segments>(m, "Segments").def(py::init<const std::string&, const py::list&>(), arg("kind"), arg("pieces"));
  m.def("optimizer_step", &optimizer_step, arg("segments"), arg("scalars"), arg("clip_factor"));
  m.def("clipped_update", &clipped_update, arg("updates"), arg("max_norm"), arg("skip_nonfinite"));
  m.def("global_norm", &global_norm, arg("grads"));
  m.def("clip_by_global_norm", &clip_by_global_norm, arg("grads"), arg("max_norm"));
  m.def("clip_by_value", &clip_by_value, arg("grads"), arg("limit"));
}

}  // namespace fusedrnn
