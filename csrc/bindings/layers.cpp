// Linear, embedding, layer norm, dropout, last step: arguments checked, results allocated, the backend called.
#include <cmath>
#include <string>

#include "bindings/array.hpp"
#include "bindings/sequence.hpp"
#include "bindings/strided.hpp"
#include "dispatch/registry.hpp"
#include "layers/linear.hpp"
#include "runtime/error.hpp"
#include "runtime/team.hpp"

namespace fusedrnn {
namespace {

// Runs call(team) without the GIL.
template <class Call>
void run(const Backend& backend, const char* name, const Call& call) {
  py::gil_scoped_release release;
  TeamLease lease;
  check(backend, call(lease.team()), name);
}

std::vector<int64_t> with_last(std::vector<int64_t> sizes, int64_t last) {
  sizes.push_back(last);
  return sizes;
}

Argument lengths_of(py::handle value, int64_t T, int64_t B) {
  const Argument lengths = optional_input("lengths", value, Element::int64, {{"B", B}});
  if (lengths.present()) require_lengths(lengths.as<int64_t>(), T, B);
  return lengths;
}

// ------------------------------------------------------------------------------------------------------- linear
py::array linear_forward(py::handle x_object, py::handle weight_object, py::handle bias_object) {
  const Argument weight = input("weight", weight_object, any_float, {{"N"}, {"I"}});
  const Argument x = input("x", x_object, weight.element(), {{"..."}, {"I", weight.size(1)}});
  const Argument bias = optional_input("bias", bias_object, weight.element(), {{"N", weight.size(0)}});
  weight.require_contiguous();
  const py::array y = fresh(x.element(), with_last(leading(x), weight.size(0)), "y");

  LinearArgs a = {};
  a.dtype = x.dtype();
  a.x = rows_of(x);
  a.rows = a.x.rows;
  a.in = weight.size(1);
  a.out = weight.size(0);
  a.weight = weight.data();
  a.bias = bias.data();
  a.y = const_cast<void*>(y.data());
  const Backend& backend = current_backend();
  const Linear linear(backend, a);
  run(backend, "linear_forward", [&](Team* team) {
    const Workspace workspace(backend, linear.forward_workspace(team->size));
    return linear.forward(workspace.data(), team);
  });
  return y;
}

py::object linear_backward(py::handle dy_object, py::handle x_object, py::handle weight_object,
                           py::handle dweight_object, py::handle dbias_object, bool need_dx) {
  const Argument weight = input("weight", weight_object, any_float, {{"N"}, {"I"}});
  const Axis N = {"N", weight.size(0)}, I = {"I", weight.size(1)};
  const Argument x = input("x", x_object, weight.element(), {{"..."}, I});
  const Argument dy = input("dy", dy_object, weight.element(), {{"..."}, N});
  const Argument dweight = optional_output("dweight", dweight_object, weight.element(), {N, I});
  const Argument dbias = optional_output("dbias", dbias_object, weight.element(), {N});
  weight.require_contiguous();
  require_shape(dy, with_last(leading(x), weight.size(0)));
  disjoint({&dweight, &dbias}, {&dy, &x, &weight});
  const py::object dx = need_dx ? py::object(fresh(x.element(), x.sizes(), "dx")) : py::none();

  LinearArgs a = {};
  a.dtype = x.dtype();
  a.x = rows_of(x);
  a.rows = a.x.rows;
  a.in = weight.size(1);
  a.out = weight.size(0);
  a.weight = weight.data();
  a.dy = rows_of(dy);
  a.dx = need_dx ? const_cast<void*>(py::array(dx).data()) : nullptr;
  a.dweight = dweight.data();
  a.dbias = dbias.data();
  const Backend& backend = current_backend();
  const Linear linear(backend, a);
  run(backend, "linear_backward", [&](Team* team) {
    const Workspace workspace(backend, linear.backward_workspace(team->size));
    return linear.backward(workspace.data(), team);
  });
  return dx;
}

// ---------------------------------------------------------------------------------------------------- embedding
py::array embedding_forward(py::handle ids_object, py::handle weight_object) {
  const Argument ids = input("ids", ids_object, Element::int64, {{"..."}});
  const Argument weight = input("weight", weight_object, any_float, {{"rows"}, {"width"}});
  weight.require_contiguous();
  require_below("ids", elements_of(ids), weight.size(0));
  const py::array y = fresh(weight.element(), with_last(ids.sizes(), weight.size(1)), "y");

  EmbeddingArgs a = {};
  a.dtype = weight.dtype();
  a.count = ids.count();
  a.rows = weight.size(0);
  a.width = weight.size(1);
  a.ids = elements_of(ids);
  a.weight = weight.data();
  a.y = const_cast<void*>(y.data());
  const Backend& backend = current_backend();
  run(backend, "embedding_forward", [&](Team* team) { return backend.embedding_forward(&a, team); });
  return y;
}

void embedding_backward(py::handle dy_object, py::handle ids_object, py::handle dweight_object) {
  const Argument ids = input("ids", ids_object, Element::int64, {{"..."}});
  const Argument dweight = output("dweight", dweight_object, any_float, {{"rows"}, {"width"}});
  const Argument dy = input("dy", dy_object, dweight.element(), {{"..."}, {"width", dweight.size(1)}});
  require_shape(dy, with_last(ids.sizes(), dy.sizes().back()));
  require_below("ids", elements_of(ids), dweight.size(0));
  disjoint({&dweight}, {&dy, &ids});

  EmbeddingArgs a = {};
  a.dtype = dy.dtype();
  a.count = ids.count();
  a.rows = dweight.size(0);
  a.width = dweight.size(1);
  a.ids = elements_of(ids);
  a.dy = rows_of(dy);
  a.dweight = dweight.data();
  const Backend& backend = current_backend();
  run(backend, "embedding_backward", [&](Team* team) { return backend.embedding_backward(&a, team); });
}

// --------------------------------------------------------------------------------------------------- layer norm
LayerNormArgs layer_norm_args(const Argument& x, const Argument& weight) {
  LayerNormArgs a = {};
  a.dtype = x.dtype();
  a.x = rows_of(x);
  a.rows = a.x.rows;
  a.width = a.x.width;
  a.weight = weight.data();
  if (a.width == 0) bad_value(x.name(), "of at least one element a row", shape_text(x.sizes()));
  return a;
}

py::tuple layer_norm_forward(py::handle x_object, py::handle weight_object, py::handle bias_object, py::handle eps) {
  const Argument x = input("x", x_object, any_float, {{"..."}, {"width"}});
  const Argument weight = optional_input("weight", weight_object, x.element(), {{"width", x.sizes().back()}});
  const Argument bias = optional_input("bias", bias_object, x.element(), {{"width", x.sizes().back()}});
  LayerNormArgs a = layer_norm_args(x, weight);
  a.eps = real("eps", eps, 0, HUGE_VAL);
  a.bias = bias.data();
  const py::array y = fresh(x.element(), x.sizes(), "y");
  const py::array mean = fresh(x.element(), leading(x), "mean"), rstd = fresh(x.element(), leading(x), "rstd");
  a.y = const_cast<void*>(y.data());
  a.mean = const_cast<void*>(mean.data());
  a.rstd = const_cast<void*>(rstd.data());
  const Backend& backend = current_backend();
  run(backend, "layer_norm_forward", [&](Team* team) { return backend.layer_norm_forward(&a, team); });
  return py::make_tuple(y, mean, rstd);
}

py::array layer_norm_backward(py::handle dy_object, py::handle x_object, py::handle weight_object,
                              py::handle mean_object, py::handle rstd_object, py::handle dweight_object,
                              py::handle dbias_object) {
  const Argument x = input("x", x_object, any_float, {{"..."}, {"width"}});
  const Axis width = {"width", x.sizes().back()};
  const Argument dy = input("dy", dy_object, x.element(), {{"..."}, width});
  const Argument weight = optional_input("weight", weight_object, x.element(), {width});
  const Argument mean = input("mean", mean_object, x.element(), {{"..."}});
  const Argument rstd = input("rstd", rstd_object, x.element(), {{"..."}});
  const Argument dweight = optional_output("dweight", dweight_object, x.element(), {width});
  const Argument dbias = optional_output("dbias", dbias_object, x.element(), {width});
  require_shape(dy, x.sizes());
  require_shape(mean, leading(x));
  require_shape(rstd, leading(x));
  mean.require_contiguous();
  rstd.require_contiguous();
  disjoint({&dweight, &dbias}, {&dy, &x, &weight, &mean, &rstd});
  LayerNormArgs a = layer_norm_args(x, weight);
  const py::array dx = fresh(x.element(), x.sizes(), "dx");
  a.dy = rows_of(dy);
  a.mean = mean.data();
  a.rstd = rstd.data();
  a.dx = const_cast<void*>(dx.data());
  a.dweight = dweight.data();
  a.dbias = dbias.data();
  const Backend& backend = current_backend();
  run(backend, "layer_norm_backward", [&](Team* team) { return backend.layer_norm_backward(&a, team); });
  return dx;
}

// ------------------------------------------------------------------------------------------------ dropout, last
py::array dropout(py::handle x_object, py::handle p, py::handle key, py::handle stream) {
  const Argument x = input("x", x_object, any_float, {{"..."}});
  const py::array y = fresh(x.element(), x.sizes(), "y");
  DropoutArgs a = {};
  a.dtype = x.dtype();
  a.count = x.count();
  a.p = real("p", p, 0, 1);
  a.key = unsigned_integer("key", key);
  a.stream = static_cast<uint32_t>(integer("stream", stream, 0, UINT32_MAX));
  a.x = elements_of(x);
  a.y = const_cast<void*>(y.data());
  const Backend& backend = current_backend();
  run(backend, "dropout", [&](Team* team) { return backend.dropout(&a, team); });
  return y;
}

py::array last_forward(py::handle x_object, py::handle lengths_object, bool batch_first) {
  const Argument x = batch_first ? input("x", x_object, any_float, {{"B"}, {"T"}, {"N"}})
                                 : input("x", x_object, any_float, {{"T"}, {"B"}, {"N"}});
  const int64_t T = x.size(batch_first ? 1 : 0), B = x.size(batch_first ? 0 : 1);
  const Argument lengths = lengths_of(lengths_object, T, B);
  const py::array y = fresh(x.element(), {B, x.size(2)}, "y");
  const LastArgs a = {
      x.dtype(), T, B, x.size(2), lengths.as<const int64_t>(), x.array3(batch_first), const_cast<void*>(y.data()),
      x.size(2)};
  const Backend& backend = current_backend();
  run(backend, "last_forward", [&](Team* team) { return backend.last_forward(&a, team); });
  return y;
}

py::array last_backward(py::handle dy_object, py::handle steps, py::handle lengths_object, bool batch_first) {
  const Argument dy = input("dy", dy_object, any_float, {{"B"}, {"N"}});
  const int64_t B = dy.size(0), N = dy.size(1), T = integer("T", steps, 0, INT64_MAX);
  const Argument lengths = lengths_of(lengths_object, T, B);
  const std::vector<int64_t> sizes = batch_first ? std::vector<int64_t>{B, T, N} : std::vector<int64_t>{T, B, N};
  const py::array dx = fresh(dy.element(), sizes, "dx");
  const Array3 to = {const_cast<void*>(dx.data()), batch_first ? N : B * N, batch_first ? T * N : N};
  const LastArgs a = {dy.dtype(), T, B, N, lengths.as<const int64_t>(), to, dy.data(), dy.stride(0)};
  const Backend& backend = current_backend();
  run(backend, "last_backward", [&](Team* team) { return backend.last_backward(&a, team); });
  return dx;
}

}  // namespace

void bind_layers(py::module_& m) {
  using py::arg;
  m.def("linear_forward", &linear_forward, arg("x"), arg("weight"), arg("bias"));
  m.def("linear_backward", &linear_backward, arg("dy"), arg("x"), arg("weight"), arg("dweight"), arg("dbias"),
        arg("need_dx"));
  m.def("embedding_forward", &embedding_forward, arg("ids"), arg("weight"));
  m.def("embedding_backward", &embedding_backward, arg("dy"), arg("ids"), arg("dweight"));
  m.def("layer_norm_forward", &layer_norm_forward, arg("x"), arg("weight"), arg("bias"), arg("eps"));
  m.def("layer_norm_backward", &layer_norm_backward, arg("dy"), arg("x"), arg("weight"), arg("mean"), arg("rstd"),
        arg("dweight"), arg("dbias"));
  m.def("dropout", &dropout, arg("x"), arg("p"), arg("key"), arg("stream"));
  m.def("last_forward", &last_forward, arg("x"), arg("lengths"), arg("batch_first"));
  m.def("last_backward", &last_backward, arg("dy"), arg("T"), arg("lengths"), arg("batch_first"));
}

}  // namespace fusedrnn
