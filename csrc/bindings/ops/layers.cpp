// Linear, embedding, layer norm, dropout, last step: arguments checked, results allocated, the backend called.
#include <cmath>
#include <string>

#include "bindings/arrays/checks.hpp"
#include "bindings/arrays/strided.hpp"
#include "bindings/call.hpp"
#include "bindings/gil.hpp"
#include "bindings/ops/sequence.hpp"
#include "runtime/error.hpp"
#include "training/embedding.hpp"
#include "training/linear.hpp"

namespace fusedrnn {
namespace {

// Runs call(workspace, stream) without the GIL, workspace having bytes_for(threads) bytes.
template <class BytesFor, class Call>
void run(const Backend* device, const char* name, const BytesFor& bytes_for, const Call& call) {
  const Backend& backend = backend_of(device);
  GilRelease release;
  CallStream on(device);
  const Memory workspace(backend, bytes_for(on.threads()), "workspace");
  check(backend, call(workspace.data(), on.stream()), name);
  on.finish();
}

// Runs an entry of the table without the GIL.
template <class Args>
void run(const Backend* device, const char* name, Status (*DenseOps::*entry)(const Args*, Stream), const Args& args) {
  const Backend& backend = backend_of(device);
  GilRelease release;
  CallStream on(device);
  check(backend, (backend.dense->*entry)(&args, on.stream()), name);
  on.finish();
}

std::vector<int64_t> with_last(std::vector<int64_t> sizes, int64_t last) {
  sizes.push_back(last);
  return sizes;
}

Argument lengths_of(py::handle value, int64_t T, int64_t B, const Backend* device) {
  if (value.is_none()) return {};
  const Argument lengths = integers("lengths", value, {{"B", B}}, device);
  require_lengths(lengths.as<int64_t>(), T, B, device);
  return lengths;
}

// ------------------------------------------------------------------------------------------------------- linear
py::object linear_forward(py::handle x_object, py::handle weight_object, py::handle bias_object,
                          const std::string& precision) {
  const Backend* device = device_of(weight_object);
  const Argument weight = input("weight", weight_object, any_float, {{"N"}, {"I"}}, device);
  const Argument x = input("x", x_object, weight.element(), {{"..."}, {"I", weight.size(1)}}, device);
  const Argument bias = optional_input("bias", bias_object, weight.element(), {{"N", weight.size(0)}}, device);
  weight.require_contiguous();
  const Result y = fresh_on(device, x.element(), with_last(leading(x), weight.size(0)), "y");

  LinearArgs a = {};
  a.dtype = x.dtype();
  a.precision = precision_named(precision);
  a.x = rows_of(x);
  a.rows = a.x.rows;
  a.in = weight.size(1);
  a.out = weight.size(0);
  a.weight = weight.data();
  a.bias = bias.data();
  a.y = y.data;
  const Linear linear(backend_of(device), a);
  run(
      device, "linear_forward", [&](int32_t threads) { return linear.forward_workspace(threads); },
      [&](void* workspace, Stream stream) { return linear.forward(workspace, stream); });
  return y.object;
}

py::object linear_backward(py::handle dy_object, py::handle x_object, py::handle weight_object,
                           py::handle dweight_object, py::handle dbias_object, py::handle wants_dx,
                           const std::string& precision) {
  const Backend* device = device_of(weight_object);
  const Argument weight = input("weight", weight_object, any_float, {{"N"}, {"I"}}, device);
  const Axis N = {"N", weight.size(0)}, I = {"I", weight.size(1)};
  const Argument x = input("x", x_object, weight.element(), {{"..."}, I}, device);
  const Argument dy = input("dy", dy_object, weight.element(), {{"..."}, N}, device);
  const Argument dweight = optional_output("dweight", dweight_object, weight.element(), {N, I}, device);
  const Argument dbias = optional_output("dbias", dbias_object, weight.element(), {N}, device);
  weight.require_contiguous();
  require_shape(dy, with_last(leading(x), weight.size(0)));
  disjoint({&dweight, &dbias}, {&dy, &x, &weight});
  const Result dx = flag("need_dx", wants_dx) ? fresh_on(device, x.element(), x.sizes(), "dx") : Result();

  LinearArgs a = {};
  a.dtype = x.dtype();
  a.precision = precision_named(precision);
  a.x = rows_of(x);
  a.rows = a.x.rows;
  a.in = weight.size(1);
  a.out = weight.size(0);
  a.weight = weight.data();
  a.dy = rows_of(dy);
  a.dx = dx.data;
  a.dweight = dweight.data();
  a.dbias = dbias.data();
  const Linear linear(backend_of(device), a);
  run(
      device, "linear_backward", [&](int32_t threads) { return linear.backward_workspace(threads); },
      [&](void* workspace, Stream stream) { return linear.backward(workspace, stream); });
  return dx.object;
}

// ---------------------------------------------------------------------------------------------------- embedding
py::object embedding_forward(py::handle ids_object, py::handle weight_object) {
  const Backend* device = device_of(weight_object);
  const Argument weight = input("weight", weight_object, any_float, {{"rows"}, {"width"}}, device);
  const Argument ids = integers("ids", ids_object, {{"..."}}, device);
  weight.require_contiguous();
  require_below("ids", elements_of(ids), weight.size(0), device);
  const Result y = fresh_on(device, weight.element(), with_last(ids.sizes(), weight.size(1)), "y");

  EmbeddingArgs a = {};
  a.dtype = weight.dtype();
  a.count = ids.count();
  a.rows = weight.size(0);
  a.width = weight.size(1);
  a.ids = elements_of(ids);
  a.weight = weight.data();
  a.y = y.data;
  run(device, "embedding_forward", &DenseOps::embedding_forward, a);
  return y.object;
}

void embedding_backward(py::handle dy_object, py::handle ids_object, py::handle dweight_object,
                        py::handle padding_object) {
  const Backend* device = device_of(dweight_object);
  const Argument dweight = output("dweight", dweight_object, any_float, {{"rows"}, {"width"}}, device);
  const Argument ids = integers("ids", ids_object, {{"..."}}, device);
  const Argument dy = input("dy", dy_object, dweight.element(), {{"..."}, {"width", dweight.size(1)}}, device);
  require_shape(dy, with_last(ids.sizes(), dy.sizes().back()));
  require_below("ids", elements_of(ids), dweight.size(0), device);
  disjoint({&dweight}, {&dy, &ids});

  EmbeddingArgs a = {};
  a.dtype = dy.dtype();
  a.count = ids.count();
  a.rows = dweight.size(0);
  a.width = dweight.size(1);
  a.ids = elements_of(ids);
  a.dy = rows_of(dy);
  a.dweight = dweight.data();
  const int64_t padding =
      padding_object.is_none() ? kNoPadding : integer("padding_idx", padding_object, 0, dweight.size(0) - 1);
  run(
      device, "embedding_backward", [&](int32_t) { return padding == kNoPadding ? 0 : row_bytes(a); },
      [&](void* kept, Stream stream) { return embedding_backward(backend_of(device), a, padding, kept, stream); });
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
  const Backend* device = device_of(x_object);
  const Argument x = input("x", x_object, any_float, {{"..."}, {"width"}}, device);
  const Axis width = {"width", x.sizes().back()};
  const Argument weight = optional_input("weight", weight_object, x.element(), {width}, device);
  const Argument bias = optional_input("bias", bias_object, x.element(), {width}, device);
  LayerNormArgs a = layer_norm_args(x, weight);
  a.eps = real("eps", eps, 0, HUGE_VAL);
  a.bias = bias.data();
  const Result y = fresh_on(device, x.element(), x.sizes(), "y");
  const Result mean = fresh_on(device, Element::float64, leading(x), "mean");
  const Result rstd = fresh_on(device, x.element(), leading(x), "rstd");
  a.y = y.data;
  a.mean = static_cast<double*>(mean.data);
  a.rstd = rstd.data;
  run(device, "layer_norm_forward", &DenseOps::layer_norm_forward, a);
  return py::make_tuple(y.object, mean.object, rstd.object);
}

py::object layer_norm_backward(py::handle dy_object, py::handle x_object, py::handle weight_object,
                               py::handle mean_object, py::handle rstd_object, py::handle dweight_object,
                               py::handle dbias_object) {
  const Backend* device = device_of(x_object);
  const Argument x = input("x", x_object, any_float, {{"..."}, {"width"}}, device);
  const Axis width = {"width", x.sizes().back()};
  const Argument dy = input("dy", dy_object, x.element(), {{"..."}, width}, device);
  const Argument weight = optional_input("weight", weight_object, x.element(), {width}, device);
  const Argument mean = input("mean", mean_object, Element::float64, {{"..."}}, device);
  const Argument rstd = input("rstd", rstd_object, x.element(), {{"..."}}, device);
  const Argument dweight = optional_output("dweight", dweight_object, x.element(), {width}, device);
  const Argument dbias = optional_output("dbias", dbias_object, x.element(), {width}, device);
  require_shape(dy, x.sizes());
  require_shape(mean, leading(x));
  require_shape(rstd, leading(x));
  mean.require_contiguous();
  rstd.require_contiguous();
  disjoint({&dweight, &dbias}, {&dy, &x, &weight, &mean, &rstd});
  LayerNormArgs a = layer_norm_args(x, weight);
  const Result dx = fresh_on(device, x.element(), x.sizes(), "dx");
  a.dy = rows_of(dy);
  a.mean = static_cast<double*>(mean.data());
  a.rstd = rstd.data();
  a.dx = dx.data;
  a.dweight = dweight.data();
  a.dbias = dbias.data();
  run(device, "layer_norm_backward", &DenseOps::layer_norm_backward, a);
  return dx.object;
}

// ------------------------------------------------------------------------------------------------ dropout, last
py::object dropout(py::handle x_object, py::handle p, py::handle key, py::handle stream) {
  const Backend* device = device_of(x_object);
  const Argument x = input("x", x_object, any_float, {{"..."}}, device);
  const Result y = fresh_on(device, x.element(), x.sizes(), "y");
  DropoutArgs a = {};
  a.dtype = x.dtype();
  a.count = x.count();
  a.p = real("p", p, 0, 1);
  a.key = unsigned_integer("key", key);
  a.stream = static_cast<uint32_t>(integer("stream", stream, 0, UINT32_MAX));
  a.x = elements_of(x);
  a.y = y.data;
  run(device, "dropout", &DenseOps::dropout, a);
  return y.object;
}

py::object last_forward(py::handle x_object, py::handle lengths_object, py::handle first) {
  const bool batch_first = flag("batch_first", first);
  const Backend* device = device_of(x_object);
  const Argument x = batch_first ? input("x", x_object, any_float, {{"B"}, {"T"}, {"N"}}, device)
                                 : input("x", x_object, any_float, {{"T"}, {"B"}, {"N"}}, device);
  const int64_t T = x.size(batch_first ? 1 : 0), B = x.size(batch_first ? 0 : 1);
  const Argument lengths = lengths_of(lengths_object, T, B, device);
  const Result y = fresh_on(device, x.element(), {B, x.size(2)}, "y");
  const LastArgs a = {x.dtype(), T,        B, x.size(2), lengths.as<const int64_t>(), x.array3(batch_first),
                      y.data,    x.size(2)};
  run(device, "last_forward", &DenseOps::last_forward, a);
  return y.object;
}

py::object last_backward(py::handle dy_object, py::handle steps, py::handle lengths_object, py::handle first) {
  const bool batch_first = flag("batch_first", first);
  const Backend* device = device_of(dy_object);
  const Argument dy = input("dy", dy_object, any_float, {{"B"}, {"N"}}, device);
  const int64_t B = dy.size(0), N = dy.size(1), T = integer("T", steps, 0, INT64_MAX);
  const Argument lengths = lengths_of(lengths_object, T, B, device);
  const std::vector<int64_t> sizes = batch_first ? std::vector<int64_t>{B, T, N} : std::vector<int64_t>{T, B, N};
  const Result dx = fresh_on(device, dy.element(), sizes, "dx");
  const Array3 to = {dx.data, batch_first ? N : B * N, batch_first ? T * N : N};
  const LastArgs a = {dy.dtype(), T, B, N, lengths.as<const int64_t>(), to, dy.data(), dy.stride(0)};
  run(device, "last_backward", &DenseOps::last_backward, a);
  return dx.object;
}

}  // namespace

void bind_layers(py::module_& m) {
  using py::arg;
  m.def("linear_forward", &linear_forward, arg("x"), arg("weight"), arg("bias"), arg("precision") = "ieee");
  m.def("linear_backward", &linear_backward, arg("dy"), arg("x"), arg("weight"), arg("dweight"), arg("dbias"),
        arg("need_dx"), arg("precision") = "ieee");
  m.def("embedding_forward", &embedding_forward, arg("ids"), arg("weight"));
  m.def("embedding_backward", py::overload_cast<py::handle, py::handle, py::handle, py::handle>(&embedding_backward),
        arg("dy"), arg("ids"), arg("dweight"), arg("padding_idx") = py::none());
  m.def("layer_norm_forward", &layer_norm_forward, arg("x"), arg("weight"), arg("bias"), arg("eps"));
  m.def("layer_norm_backward", &layer_norm_backward, arg("dy"), arg("x"), arg("weight"), arg("mean"), arg("rstd"),
        arg("dweight"), arg("dbias"));
  m.def("dropout", &dropout, arg("x"), arg("p"), arg("key"), arg("stream"));
  m.def("last_forward", &last_forward, arg("x"), arg("lengths"), arg("batch_first"));
  m.def("last_backward", &last_backward, arg("dy"), arg("T"), arg("lengths"), arg("batch_first"));
}

}  // namespace fusedrnn
