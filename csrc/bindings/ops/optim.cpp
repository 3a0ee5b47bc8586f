// Optimizers: tables of segments, one update, the global norm, clipping.
#include <algorithm>
#include <cmath>
#include <string>

#include "backend/scratch.hpp"
#include "bindings/arrays/device_array.hpp"
#include "bindings/arrays/strided.hpp"
#include "bindings/call.hpp"
#include "bindings/counts.hpp"
#include "bindings/gil.hpp"
#include "bindings/ops/optim.hpp"
#include "bindings/sealed.hpp"
#include "runtime/error.hpp"

namespace fusedrnn {
namespace {

const RuleFacts& rule_named(const std::string& name) {
  for (const RuleFacts& rule : kRules)
    if (name == rule.name) return rule;
  std::vector<const char*> names;
  for (const RuleFacts& rule : kRules) names.push_back(rule.name);
  bad_value("kind", quoted(names, "or"), "'" + name + "'");
}

Argument gradient(py::handle value, Element element, const std::vector<int64_t>& sizes, Location location) {
  const Argument grad = input("grad", value, element, {{"..."}}, location);
  require_shape(grad, sizes);
  grad.require_contiguous();
  return grad;
}

}  // namespace

Segments::Segments(const std::string& kind, const py::list& pieces, bool tensors)
    : rule_(rule_named(kind)), tensors_(tensors) {
  for (const py::handle piece : pieces) {
    const py::tuple parts = py::cast<py::tuple>(piece);
    if (pieces_.empty()) device_ = device_of(parts[0]);
    const Element element = pieces_.empty() ? any_float : pieces_[0].element();
    const Argument param = output("param", parts[0], element, {{"..."}}, location());
    const Argument grad = gradient(parts[1], param.element(), param.sizes(), location());
    Segment segment = {param.data(), grad.data(), {}, param.count()};
    const py::list given = py::cast<py::list>(parts[2]);
    if (given.size() != static_cast<size_t>(rule_.states))
      bad_value("state", "of " + std::to_string(rule_.states) + " entries", std::to_string(given.size()));
    std::vector<Argument> states;
    for (int32_t i = 0; i < rule_.states; ++i) {
      const StateFacts& facts = rule_.state[i];
      const auto read = facts.kept_by == nullptr ? output : optional_output;
      states.push_back(read(facts.name, given[static_cast<size_t>(i)], param.element(), {{"..."}}, location()));
      if (states.back().present()) require_shape(states.back(), param.sizes());
      segment.state[i] = states.back().data();
    }
    std::vector<const Argument*> outputs = {&param};
    for (const Argument& state : states) outputs.push_back(&state);
    disjoint(outputs, {&grad});
    segments_.push_back(segment);
    pieces_.push_back(param);
    pieces_.push_back(grad);
    pieces_.insert(pieces_.end(), states.begin(), states.end());
    for (const Argument* output : outputs) add(output->block(), Access::write);
    add(grad.block(), Access::read);
  }
}

Location Segments::location() const {
  Location location(device_);
  location.tensors = tensors_;
  return location;
}

bool Segments::refresh(const py::list& params, const py::list& grads) {
  if (params.size() != segments_.size() || grads.size() != segments_.size()) return false;
  const size_t each = pieces_.size() / std::max<size_t>(segments_.size(), 1);
  for (size_t i = 0; i < segments_.size(); ++i) {
    Argument& known = pieces_[i * each];
    Argument& grad = pieces_[i * each + 1];
    const bool still = known.is_still(params[i]);
    if (still && grad.is_still(grads[i])) continue;
    if (!still) {
      const Argument param = output("param", params[i], any_float, {{"..."}}, location());
      if (param.data() != known.data() || param.sizes() != known.sizes() || param.element() != known.element())
        return false;
    }
    grad = gradient(grads[i], known.element(), known.sizes(), location());
    disjoint({&known}, {&grad});
    segments_[i].grad = grad.data();
  }
  return true;
}

void Segments::add(std::shared_ptr<Block> block, Access access) {
  const auto same = [&](const auto& known) { return known.first == block && known.second == access; };
  if (block != nullptr && std::none_of(blocks_.begin(), blocks_.end(), same)) blocks_.emplace_back(block, access);
}

void Segments::use() const {
  for (const auto& [block, access] : blocks_) block->use(access);
}

OptimizerArgs update_of(const Segments& segments) {
  segments.use();
  OptimizerArgs a = {};
  a.kind = segments.rule().kind;
  a.dtype = segments.dtype();
  a.segments = static_cast<int64_t>(segments.segments().size());
  a.segment = segments.segments().data();
  for (double& scalar : a.scalar) scalar = NAN;  // until it is set
  a.step = 1;
  return a;
}

OptimizerArgs update_of(const Segments& segments, const py::dict& scalars) {
  OptimizerArgs a = update_of(segments);
  const RuleFacts& rule = segments.rule();
  std::vector<const char*> names;
  for (int32_t i = 0; i < rule.scalars; ++i) names.push_back(rule.scalar[i].name);
  bool known = scalars.size() == names.size();
  for (size_t i = 0; i < names.size() && known; ++i) {
    known = scalars.contains(names[i]);
    if (known) a.scalar[i] = py::cast<double>(scalars[names[i]]);
  }
  if (!known) bad_value("scalars", quoted(names, "and"), py::str(py::list(scalars)));
  return a;
}

namespace {

double finite_factor(py::handle clip_factor) {
  const double factor = real("clip_factor", clip_factor, 0, HUGE_VAL);
  if (std::isinf(factor)) bad_value("clip_factor", "finite and >= 0", "inf");
  return factor;
}

void optimizer_step(const Segments& segments, const py::dict& scalars, py::handle step, py::handle clip_factor) {
  const Backend* device = segments.device();
  const Backend& backend = backend_of(device);
  OptimizerArgs a = update_of(segments, scalars);
  a.step = integer("step", step, 1, INT64_MAX);
  Argument there;
  double factor = 1;
  if (device != nullptr && as_device_array(clip_factor) != nullptr)
    there = input("clip_factor", clip_factor, Element::float64, {}, device);
  else if (!clip_factor.is_none())
    factor = finite_factor(clip_factor);
  GilRelease release;
  CallStream on(device);
  const Memory copy(backend, device != nullptr && factor != 1 ? sizeof factor : 0, "clip_factor");
  if (there.present()) {
    a.clip_factor = there.as<double>();
  } else if (copy.data() != nullptr) {
    check(backend, backend.copy(copy.data(), &factor, sizeof factor, on.stream()), "clip_factor");
    a.clip_factor = copy.as<double>();
  } else if (factor != 1) {
    a.clip_factor = &factor;
  }
  check(backend, backend.optim->optimizer(&a, on.stream()), "optimizer_step");
  on.finish();
}

// Gradients by dtype with the arrays they lie in.
struct Listed {
  const Backend* device = nullptr;
  std::vector<Segment> of[2];  // float32, float64
  std::vector<Argument> kept;

  std::vector<GradientGroup> groups() const {
    std::vector<GradientGroup> groups;
    for (const bool wide : {false, true})
      if (!of[wide].empty())
        groups.push_back(
            {wide ? DType::float64 : DType::float32, static_cast<int64_t>(of[wide].size()), of[wide].data()});
    return groups;
  }
};

Listed listed(const py::list& arrays, bool written) {
  Listed g;
  if (!arrays.empty()) g.device = device_of(arrays[0]);
  for (const py::handle value : arrays) {
    const std::string name = "arrays[" + std::to_string(g.kept.size()) + "]";
    Argument grad = written ? output(name, value, any_float, {{"..."}}, g.device)
                            : input(name, value, any_float, {{"..."}}, g.device);
    grad.require_contiguous();
    g.of[grad.dtype() == DType::float64].push_back({nullptr, grad.data(), {}, grad.count()});
    g.kept.push_back(grad);
  }
  return g;
}

// The norm of all gradients into `norm`, and into `factor`, if given, what makes it max_norm where it is more: both in
// the backend's memory.
void measure(const Backend& backend, const std::vector<GradientGroup>& groups, double max_norm, double* norm,
             double* factor, Stream stream) {
  NormArgs a = {static_cast<int64_t>(groups.size()), groups.data(), max_norm, norm, factor, nullptr};
  const Memory partials(backend, norm_partials(a) * sizeof(double), "partial sums of the norm");
  a.partials = partials.as<double>();
  check(backend, backend.optim->norm(&a, stream), "global_norm");
}

// updates: tuples of a table, its scalars, its step, and None or the arrays that are read instead of lr and step. All
// tables are of one device. A max_norm of None has the gradients neither measured nor scaled nor looked at, and returns
// None. What is `counted` (counts.hpp) is, unless the host knows that the update was skipped.
py::object clipped_update(const py::list& updates, py::handle max_norm, bool skip_nonfinite, const py::list& counted) {
  const Counts counts(counted);
  std::vector<UpdateGroup> groups;
  std::vector<Argument> kept;
  const Backend* device = nullptr;
  for (const py::handle update : updates) {
    const py::tuple parts = py::cast<py::tuple>(update);
    const Segments& table = py::cast<const Segments&>(parts[0]);
    if (groups.empty()) device = table.device();
    if (table.device() != device) bad_value("updates", "of parameters on one device", "of some on another");
    UpdateGroup group = {update_of(table, py::cast<py::dict>(parts[1])), nullptr, nullptr};
    if (parts[3].is_none()) {
      group.update.step = integer("step", parts[2], 1, INT64_MAX);
    } else {
      const py::tuple counters = py::cast<py::tuple>(parts[3]);
      kept.push_back(input("lr", counters[0], Element::float64, {{"1", 1}}, device));
      group.lr = static_cast<const double*>(kept.back().data());
      kept.push_back(output("steps", counters[1], Element::int64, {{"2", 2}}, device));
      group.steps = static_cast<int64_t*>(kept.back().data());
    }
    groups.push_back(group);
  }
  const Backend& backend = backend_of(device);
  const bool measured = !max_norm.is_none();
  const double limit = measured ? py::cast<double>(max_norm) : HUGE_VAL;
  Scalar norm(device, "norm");
  {
    GilRelease release;
    ClippedUpdateArgs a = {};
    a.groups = static_cast<int64_t>(groups.size());
    a.group = groups.data();
    const Memory partials(backend, (measured ? norm_partials(a) : 0) * sizeof(double), "partial sums of the norm");
    a.max_norm = limit;
    a.skip_nonfinite = skip_nonfinite;
    a.norm = measured ? norm.data() : nullptr;
    a.partials = partials.as<double>();
    CallStream on(device);
    check(backend, backend.optim->clipped_update(&a, on.stream()), "clipped_update");
    on.finish();
  }
  if (device != nullptr || !skip_nonfinite || std::isfinite(*norm.data())) counts.count();
  return measured ? norm.object() : py::none();
}

py::object global_norm(const py::list& grads) {
  const Listed g = listed(grads, false);
  const Backend& backend = backend_of(g.device);
  Scalar norm(g.device, "norm");
  {
    GilRelease release;
    CallStream on(g.device);
    measure(backend, g.groups(), 1, norm.data(), nullptr, on.stream());
    on.finish();
  }
  return norm.object();
}

py::object clip_by_global_norm(const py::list& grads, py::handle max_norm_object) {
  const double max_norm = real("max_norm", max_norm_object, 0, HUGE_VAL);
  const Listed g = listed(grads, true);
  const Backend& backend = backend_of(g.device);
  Scalar norm(g.device, "norm");
  {
    GilRelease release;
    const Memory factor(backend, sizeof(double), "clip_factor");
    CallStream on(g.device);
    const std::vector<GradientGroup> groups = g.groups();
    measure(backend, groups, max_norm, norm.data(), factor.as<double>(), on.stream());
    for (const auto& [dtype, count, segment] : groups)
      check(backend, backend.optim->scale(dtype, count, segment, factor.as<double>(), on.stream()),
            "clip_by_global_norm");
    on.finish();
  }
  return norm.object();
}

void clip_by_value(const py::list& grads, py::handle limit_object) {
  const double limit = real("limit", limit_object, 0, HUGE_VAL);
  const Listed g = listed(grads, true);
  const Backend& backend = backend_of(g.device);
  GilRelease release;
  CallStream on(g.device);
  for (const auto& [dtype, count, segment] : g.groups())
    check(backend, backend.optim->clip_value(dtype, count, segment, limit, on.stream()), "clip_by_value");
  on.finish();
}

// {kind: ({state: the scalar it is kept by, or None}, {scalar: (default, range)})}
py::dict rules() {
  py::dict all;
  for (const RuleFacts& rule : kRules) {
    py::dict states, scalars;
    for (const StateFacts* s = rule.state; s != rule.state + rule.states; ++s)
      states[s->name] = s->kept_by == nullptr ? py::object(py::none()) : py::str(s->kept_by);
    for (const ScalarFacts* s = rule.scalar; s != rule.scalar + rule.scalars; ++s)
      scalars[s->name] = py::make_tuple(s->otherwise, text_of(s->range));
    all[rule.name] = py::make_tuple(states, scalars);
  }
  return all;
}

}  // namespace

void bind_optim(py::module_& m) {
  using py::arg;
  m.def("rules", &rules);
  py::class_<Segments> segments(m, "Segments");
  seal(
      segments,
      [](const std::string& kind, const py::list& pieces, bool tensors) { return Segments(kind, pieces, tensors); },
      arg("kind"), arg("pieces"), arg("tensors") = false);
  segments.def("refresh", &Segments::refresh, arg("params"), arg("grads"));
  m.def("optimizer_step", &optimizer_step, arg("segments"), arg("scalars"), arg("step"), arg("clip_factor"));
  m.def("clipped_update", &clipped_update, arg("updates"), arg("max_norm"), arg("skip_nonfinite"),
        arg("counted") = py::list());
  m.def("global_norm", &global_norm, arg("arrays"));
  m.def("clip_by_global_norm", &clip_by_global_norm, arg("arrays"), arg("max_norm"));
  m.def("clip_by_value", &clip_by_value, arg("arrays"), arg("limit"));
}

}  // namespace fusedrnn
