// Recurrent stacks: check arguments, release the GIL, call the backend.
#include "bindings/ops/sequence.hpp"

#include <pybind11/stl.h>

#include <optional>

#include "bindings/arrays/device_array.hpp"
#include "bindings/gil.hpp"
#include "bindings/sealed.hpp"
#include "runtime/error.hpp"

namespace fusedrnn {

namespace {

// The cell that weights with so many rows of R and units belong to, if they determine it: one that has those of
// gates alone, and whose gates read h itself.
const CellTraits& cell_of(const std::string& name, int64_t rows, int64_t H) {
  std::string known;
  for (const CellTraits& cell : kCells) {
    if (cell.weights.count > kGateWeights || cell.gated_gates > 0) continue;
    if (H >= 1 && cell.gates * H == rows) return cell;
    known += (known.empty() ? "" : ", ") + std::to_string(cell.gates) + " (" + cell.name + ")";
  }
  bad_value(name, "(G*H, H) with H >= 1 and G = " + known + ", or the cell named",
            "(" + std::to_string(rows) + ", " + std::to_string(H) + ")");
}

std::string gates_text(const CellTraits& cell) {
  return "those of a cell with " + std::to_string(cell.gates) + " gates (" + cell.name + ")";
}

std::shared_ptr<PackedWeights> pack_weights(py::handle num_layers, py::handle num_directions, bool bias,
                                            const py::list& weights, const std::string& precision,
                                            const std::string& algo, const std::optional<std::string>& cell,
                                            py::handle weight_dropout, py::handle dropout_key) {
  SequenceDesc desc{};
  desc.layers = static_cast<int32_t>(integer("num_layers", num_layers, 1, kMaxLayers));
  desc.directions = static_cast<int32_t>(integer("num_directions", num_directions, 1, 2));
  desc.has_bias = bias;
  if (cell) desc.cell = cell_named(*cell).kind;
  const std::vector<StackWeight> first = stack_weights(desc);
  require_count("weights", first, weights.size());
  const Backend* device = device_of(weights[0]);
  const Argument w = input(first[0].name, weights[0], any_float, {{"G*H"}, {"I"}}, device);
  const Argument r = input(first[1].name, weights[1], w.element(), {{"G*H", w.size(0)}, {"H"}}, device);
  if (!cell) desc.cell = cell_of(first[1].name, r.size(0), r.size(1)).kind;
  const CellTraits& its = traits(desc.cell);
  const int64_t H = its.projection < 0 ? r.size(1) : r.size(0) / its.gates;
  if (H < 1 || its.gates * H != r.size(0))
    bad_value("weights", gates_text(its),
              first[1].name + " (" + std::to_string(r.size(0)) + ", " + std::to_string(r.size(1)) + ")");
  desc.dtype = w.dtype();
  desc.precision = precision_named(precision);
  require_plan(desc, algo);
  desc.weight_dropout = real("weight_dropout", weight_dropout, 0, 1);
  desc.weight_key = unsigned_integer("dropout_key", dropout_key);
  require_regularisers(desc, device);
  desc.I = w.size(1);
  desc.H = H;
  desc.P = projected_units(desc, r.size(1), device);
  product("G * H * (I + H)", {its.gates, H, desc.I + H, desc.layers, desc.directions, 16});
  std::vector<StackWeight> all = stack_weights(desc);
  std::vector<Argument> arguments;
  arguments.reserve(all.size());
  std::vector<LayerWeights> layers(static_cast<size_t>(desc.layers * desc.directions));
  for (size_t i = 0; i < all.size(); ++i) {
    const StackWeight& weight = all[i];
    arguments.push_back(weight_argument(weight.name, weights[i], weight.size, w.element(), device, false));
    const Argument& a = arguments.back();
    layers[static_cast<size_t>(weight.stack)].weight[weight.which] = {a.data(), weight.size.matrix ? a.stride(0) : 1};
  }

  const Backend& backend = backend_of(device);
  auto packed = std::make_shared<PackedWeights>(
      PackedWeights{backend, device, device != nullptr ? device->device() : 0, desc, std::move(all), nullptr});
  GilRelease release;
  CallStream on(device);
  on.offer_to_pack(desc);
  SequenceSizes sizes;
  check(backend, backend.sequence->sizes(&desc, &sizes), "pack_weights");
  packed->memory = std::make_unique<Memory>(backend, sizes.packed, "pack_weights");
  check(backend, backend.sequence->pack(&desc, layers.data(), packed->memory->data(), on.stream()), "pack_weights");
  on.finish();
  return packed;
}

// A contiguous copy of a state (L * D, B, units), null for an absent one.
std::unique_ptr<Memory> copied_state(const Backend& backend, const Argument& state, const char* what) {
  if (!state.present()) return nullptr;
  const size_t row = static_cast<size_t>(state.size(2) * bytes_of(state.element()));
  const size_t all = row * static_cast<size_t>(state.size(0) * state.size(1));
  auto copy = std::make_unique<Memory>(backend, all, what);
  char* to = static_cast<char*>(copy->data());
  if (state.contiguous()) {
    check(backend, backend.copy(to, state.data(), all, current_stream()), what);
    return copy;
  }
  for (int64_t i = 0; i < state.size(0); ++i)
    for (int64_t b = 0; b < state.size(1); ++b, to += row)
      check(backend,
            backend.copy(to, state.as<char>() + (i * state.stride(0) + b * state.stride(1)) * bytes_of(state.element()),
                         row, current_stream()),
            what);
  return copy;
}

// The values in the device's memory, null for none.
template <class T>
std::unique_ptr<Memory> uploaded(const Backend& device, const std::vector<T>& values, const char* what) {
  if (values.empty()) return nullptr;
  auto copy = std::make_unique<Memory>(device, values.size() * sizeof(T), what);
  check(device, device.copy(copy->data(), values.data(), copy->bytes(), current_stream()), what);
  return copy;
}

// What kernels read of lengths and resets.
template <class Args>
void set_marks(Args& args, const Tape& tape, const SequenceDesc& desc) {
  const bool device = tape.packed->device != nullptr;
  if (desc.has_lengths)
    args.lengths = device ? static_cast<const int64_t*>(tape.device_lengths->read()) : tape.lengths.data();
  if (desc.has_resets)
    args.resets = device ? static_cast<const uint8_t*>(tape.device_resets->read()) : tape.resets.data();
  args.resets_stride0 = desc.B;
  args.resets_stride1 = 1;
}

Array3 state_view(const std::unique_ptr<Memory>& state, int64_t B, int64_t units) {
  return Array3{state ? const_cast<void*>(state->read()) : nullptr, B * units, units};
}

// What errors call the units of h.
const char* units_of_h(const SequenceDesc& desc) { return desc.P > 0 ? "P" : "H"; }

Array3 view(const Result& array, int64_t B, int64_t width) { return Array3{array.data, B * width, width}; }

// A fresh (T, B, width), or (B, T, width) seen as (t, b, feature).
Result fresh_sequence(const Backend* device, const SequenceDesc& desc, bool batch_first, int64_t width,
                      const char* name, Array3& seen) {
  const Element element = element_of(desc.dtype);
  const Result array = batch_first ? fresh_on(device, element, {desc.B, desc.T, width}, name)
                                   : fresh_on(device, element, {desc.T, desc.B, width}, name);
  seen = batch_first ? Array3{array.data, width, desc.T * width} : Array3{array.data, desc.B * width, width};
  return array;
}

py::tuple sequence_forward(const std::string& cell, std::shared_ptr<PackedWeights> packed, py::handle x_object,
                           py::handle h0_object, py::handle c0_object, const SequenceOptions& options) {
  const CellTraits &its = cell_named(cell), &packed_for = traits(packed->desc.cell);
  if (!share_weights(its, packed_for) && its.gates == packed_for.gates)
    bad_value("weights", "packed for " + cell + ", as pack_weights does with cell='" + cell + "'",
              std::string("packed for ") + packed_for.name);
  if (!share_weights(its, packed_for))
    bad_value("weights", gates_text(its),
              "of a cell with " + std::to_string(packed_for.gates) + " (" + packed_for.name + ")");
  SequenceDesc desc = packed->desc;
  const Element element = element_of(desc.dtype);
  const bool batch_first = options.batch_first, train = options.train;
  desc.cell = its.kind;
  options.describe(desc);
  if (!its.has_cell_state && desc.zoneout_c > 0) bad_value("zoneout_c", "0: no cell states", "greater");

  const Backend* device = packed->device;
  require_regularisers(desc, device);
  require_recompute(desc, device);
  if (device != nullptr) require_device("weights", *device, packed->index);
  Argument x = batch_first ? input("x", x_object, element, {{"B"}, {"T"}, {"I", desc.I}}, device)
                           : input("x", x_object, element, {{"T"}, {"B"}, {"I", desc.I}}, device);
  desc.T = x.size(batch_first ? 1 : 0);
  desc.B = x.size(batch_first ? 0 : 1);
  check_size(desc, its.gates);
  const int64_t stacks = desc.layers * desc.directions, H = desc.H, P = state_units(desc), B = desc.B;
  const Argument h0 =
      optional_input("h0", h0_object, element, {{"L*D", stacks}, {"B", B}, {units_of_h(desc), P}}, device);
  const bool has_cell = its.has_cell_state;
  if (!has_cell && !c0_object.is_none()) bad_value("c0", no_cell_state(its), "given");
  const Argument c0 = optional_input("c0", c0_object, element, {{"L*D", stacks}, {"B", B}, {"H", H}}, device);

  const Backend& backend = packed->backend;
  auto tape = std::make_shared<Tape>();
  tape->packed = packed;
  tape->batch_first = batch_first;
  tape->lengths = copied_lengths(options.lengths, desc.T, B, device);
  tape->resets = copied_resets(options.resets, desc.T, B, batch_first, device);
  desc.has_lengths = !tape->lengths.empty();
  desc.has_resets = !tape->resets.empty();
  if (device != nullptr) {
    tape->device_lengths = uploaded(backend, tape->lengths, "lengths");
    tape->device_resets = uploaded(backend, tape->resets, "resets");
  }
  if (train) {
    tape->h0 = copied_state(backend, h0, "h0");
    tape->c0 = copied_state(backend, c0, "c0");
  }

  ForwardArgs args{};
  const Result y = fresh_sequence(device, desc, batch_first, desc.directions * P, "y", args.y);
  const Result hn = fresh_on(device, element, {stacks, B, P}, "hn");
  const Result cn = has_cell ? fresh_on(device, element, {stacks, B, H}, "cn") : Result();
  args.x = x.array3(batch_first);
  if (h0.present()) args.h0 = h0.array3();
  if (c0.present()) args.c0 = c0.array3();
  args.packed = packed->memory->read();
  set_marks(args, *tape, desc);
  args.hn = view(hn, B, P);
  if (has_cell) args.cn = view(cn, B, H);
  {
    GilRelease release;
    CallStream on(device);
    on.offer(desc);
    SequenceSizes sizes;
    check(backend, backend.sequence->sizes(&desc, &sizes), "forward");
    if (train) {
      tape->memory = std::make_unique<Memory>(backend, sizes.tape, "tape");
      args.tape = tape->memory->data();
    }
    const Memory workspace(backend, sizes.forward, "workspace of forward");
    check(backend, backend.sequence->forward(&desc, &args, workspace.data(), on.stream()), "forward");
    on.finish();
  }
  tape->desc = desc;
  tape->x = std::move(x);
  return py::make_tuple(y.object, hn.object, cn.object, train ? py::cast(std::move(tape)) : py::object(py::none()));
}

py::tuple sequence_backward(const Tape& tape, py::handle dy_object, py::handle dhn_object, py::handle dcn_object,
                            const py::list& dweights, py::handle wants_dx, py::handle wants_flow) {
  const bool need_dx = flag("need_dx", wants_dx);
  SequenceDesc desc = tape.desc;
  desc.flow = flag("flow", wants_flow);
  const PackedWeights& packed = *tape.packed;
  const Backend& backend = packed.backend;
  const Backend* device = packed.device;
  if (device != nullptr) require_device("tape", *device, packed.index);
  if (device != nullptr && desc.flow) bad_value("flow", "False on a CUDA device (it is not on CUDA yet)", "True");
  const Element element = element_of(desc.dtype);
  const int64_t stacks = desc.layers * desc.directions, H = desc.H, P = state_units(desc), B = desc.B;
  const CellTraits& its = traits(desc.cell);
  const bool has_cell = its.has_cell_state;
  const Argument dy = sequence_input("dy", dy_object, desc, tape.batch_first, desc.directions * P,
                                     desc.P > 0 ? "D*P" : "D*H", element, device);
  const Argument dhn =
      optional_input("dhn", dhn_object, element, {{"L*D", stacks}, {"B", B}, {units_of_h(desc), P}}, device);
  if (!has_cell && !dcn_object.is_none()) bad_value("dcn", no_cell_state(its), "given");
  const Argument dcn = optional_input("dcn", dcn_object, element, {{"L*D", stacks}, {"B", B}, {"H", H}}, device);
  require_count("dweights", packed.weights, dweights.size());
  std::vector<Argument> grads;
  std::vector<LayerGrads> layers(static_cast<size_t>(stacks));
  for (size_t i = 0; i < packed.weights.size(); ++i) {
    const StackWeight& weight = packed.weights[i];
    grads.push_back(weight_argument("d" + weight.name, dweights[i], weight.size, element, device, true));
    layers[static_cast<size_t>(weight.stack)].weight[weight.which] = grads.back().data();
  }
  std::vector<const Argument*> outputs, inputs{&dy, &dhn, &dcn, &tape.x};
  for (const Argument& grad : grads) outputs.push_back(&grad);
  disjoint(outputs, inputs);

  BackwardArgs args{};
  if (const std::shared_ptr<Block> x = tape.x.block()) x->use(Access::read);
  args.x = tape.x.array3(tape.batch_first);
  args.h0 = state_view(tape.h0, B, P);
  args.c0 = state_view(tape.c0, B, H);
  args.packed = packed.memory->read();
  set_marks(args, tape, desc);
  args.tape = tape.memory->read();
  if (dy.present()) args.dy = dy.array3(tape.batch_first);
  if (dhn.present()) args.dhn = dhn.array3();
  if (dcn.present()) args.dcn = dcn.array3();
  args.dweights = layers.data();
  Result dx;
  if (need_dx) dx = fresh_sequence(device, desc, tape.batch_first, desc.I, "dx", args.dx);
  const Result dh0 = fresh_on(device, element, {stacks, B, P}, "dh0");
  const Result dc0 = has_cell ? fresh_on(device, element, {stacks, B, H}, "dc0") : Result();
  args.dh0 = view(dh0, B, P);
  if (has_cell) args.dc0 = view(dc0, B, H);
  const Flow flow = desc.flow ? fresh_flow(desc, desc.T) : Flow{};
  args.flow_h = flow.h;
  args.flow_c = flow.c;
  args.flow_stride = desc.T;
  {
    GilRelease release;
    CallStream on(device);
    on.offer(desc);
    SequenceSizes sizes;
    check(backend, backend.sequence->sizes(&desc, &sizes), "backward");
    const Memory workspace(backend, sizes.backward, "workspace of backward");
    check(backend, backend.sequence->backward(&desc, &args, workspace.data(), on.stream()), "backward");
    on.finish();
  }
  return py::make_tuple(dx.object, dh0.object, dc0.object, flow.arrays);
}

}  // namespace

namespace {

constexpr int64_t kMaxFirstRow = int64_t{1} << 29;  // rows of masks are numbered with 30 bits

SequenceOptions make_options(py::object lengths, py::object resets, py::handle batch_first, py::handle dropout,
                             py::handle dropout_key, py::handle train, py::handle recurrent_dropout,
                             py::handle zoneout_c, py::handle zoneout_h, py::handle dropout_per_sequence,
                             py::handle first_row, py::handle recompute, py::handle zoneout_mean) {
  return SequenceOptions{std::move(lengths),
                         std::move(resets),
                         flag("batch_first", batch_first),
                         real("dropout", dropout, 0, 1),
                         unsigned_integer("dropout_key", dropout_key),
                         flag("train", train),
                         real("recurrent_dropout", recurrent_dropout, 0, 1),
                         real("zoneout", zoneout_c, 0, 1),
                         real("zoneout", zoneout_h, 0, 1),
                         flag("dropout_per_sequence", dropout_per_sequence),
                         integer("first_row", first_row, 0, kMaxFirstRow),
                         integer("recompute", recompute, kRecomputeAuto, INT64_MAX / 2),
                         flag("zoneout_mean", zoneout_mean)};
}

}  // namespace

void bind_sequence(py::module_& m) {
  py::class_<PackedWeights, std::shared_ptr<PackedWeights>> packed(m, "PackedWeights");
  seal(packed);
  packed.def_property_readonly("nbytes", [](const PackedWeights& packed) { return packed.memory->bytes(); })
      .def_property_readonly("backend", [](const PackedWeights& packed) { return packed.backend.name; });
  py::class_<Tape, std::shared_ptr<Tape>> tape(m, "Tape");
  seal(tape);
  tape.def_property_readonly("nbytes", &Tape::bytes)
      .def_property_readonly("cells", &tape_cells)
      .def_property_readonly("gates", &tape_gates);
  m.def("pack_weights", &pack_weights, py::arg("num_layers"), py::arg("num_directions"), py::arg("bias"),
        py::arg("weights"), py::arg("precision") = "ieee", py::arg("algo") = "auto", py::arg("cell") = py::none(),
        py::arg("weight_dropout") = 0.0, py::arg("dropout_key") = 0);
  py::class_<SequenceOptions> options(m, "SequenceOptions");
  seal(options, &make_options, py::arg("lengths") = py::none(), py::arg("resets") = py::none(),
       py::arg("batch_first") = false, py::arg("dropout") = 0.0, py::arg("dropout_key") = 0, py::arg("train") = true,
       py::arg("recurrent_dropout") = 0.0, py::arg("zoneout_c") = 0.0, py::arg("zoneout_h") = 0.0,
       py::arg("dropout_per_sequence") = false, py::arg("first_row") = 0, py::arg("recompute") = 0,
       py::arg("zoneout_mean") = false);
  options.def_readonly("lengths", &SequenceOptions::lengths)
      .def_readonly("resets", &SequenceOptions::resets)
      .def("of_arrays", [](SequenceOptions options, py::object lengths, py::object resets) {
        options.lengths = std::move(lengths);
        options.resets = std::move(resets);
        return options;
      });
  m.def("sequence_forward", &sequence_forward, py::arg("cell"), py::arg("packed"), py::arg("x"), py::arg("h0"),
        py::arg("c0"), py::arg("options"));
  m.def("sequence_backward", &sequence_backward, py::arg("tape"), py::arg("dy"), py::arg("dhn"), py::arg("dcn"),
        py::arg("dweights"), py::arg("need_dx"), py::arg("flow") = false);
  bind_plan(m);
  bind_stack(m);
}

}  // namespace fusedrnn
