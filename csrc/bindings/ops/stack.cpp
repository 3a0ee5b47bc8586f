// Recurrent stacks over memory of the caller's, for frameworks that allocate for themselves and whose graphs hold
// arrays and nothing else. What backward needs of forward is a block of bytes: the packed weights and, behind them, the
// tape.
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>

#include "bindings/gil.hpp"
#include "bindings/ops/sequence.hpp"
#include "bindings/sealed.hpp"
#include "runtime/error.hpp"

namespace fusedrnn {
namespace {

constexpr int64_t kLine = 64;  // what pieces of the block are aligned to

// What all calls of a stack have in common, checked once.
struct Stack {
  SequenceDesc desc;  // T and B are 0
  std::vector<StackWeight> weights;
};

Location host() {
  Location location;
  location.tensors = true;
  return location;
}

Stack make_stack(const std::string& cell, py::handle num_layers, py::handle num_directions, bool bias,
                 py::handle input_size, py::handle hidden_size, const std::string& dtype, const std::string& precision,
                 py::handle weight_dropout, py::handle proj_size) {
  const CellTraits& its = cell_named(cell);
  SequenceDesc desc{};
  desc.cell = its.kind;
  desc.layers = static_cast<int32_t>(integer("num_layers", num_layers, 1, kMaxLayers));
  desc.directions = static_cast<int32_t>(integer("num_directions", num_directions, 1, 2));
  desc.has_bias = bias;
  desc.I = integer("input_size", input_size, 0, int64_t{1} << 31);
  desc.H = integer("hidden_size", hidden_size, 1, int64_t{1} << 31);
  desc.P = projection_asked(desc, proj_size, nullptr);
  desc.dtype = dtype_named(dtype);
  desc.precision = precision_named(precision);
  desc.weight_dropout = real("weight_dropout", weight_dropout, 0, 1);
  product("G * H * (I + H)", {its.gates, desc.H, desc.I + desc.H, desc.layers, desc.directions, 16});
  const Backend& backend = backend_of(nullptr);
  SequenceSizes sizes;
  check(backend, backend.sequence->sizes(&desc, &sizes), "Stack");  // whether the backend has all that
  return {desc, stack_weights(desc)};
}

SequenceSizes sizes_of(const SequenceDesc& desc) {
  const Backend& backend = backend_of(nullptr);
  SequenceSizes sizes;
  check(backend, backend.sequence->sizes(&desc, &sizes), "Stack");
  return sizes;
}

// Bytes of packed weights, and a, b: the block of T steps of B rows has at most a + T * B * b. Every piece of the tape
// has so many elements for each step and row, and is rounded up to a line: with a line of steps nothing is.
py::tuple block_bytes(const Stack& stack) {
  constexpr int64_t pieces = 4;  // of a layer and direction: states, cell states, gates, values of rows
  SequenceDesc desc = stack.desc;
  desc.train = 1;
  desc.B = 1;
  desc.T = kLine;
  const SequenceSizes sizes = sizes_of(desc);
  const auto packed = static_cast<int64_t>(sizes.packed);
  return py::make_tuple(packed, packed + pieces * kLine * desc.layers * desc.directions,
                        static_cast<int64_t>(sizes.tape) / kLine);
}

// (step, row) pairs of a chunk, in which recomputation counts: a piece is whole chunks of max(1, this / B) steps.
int64_t chunk_rows(const Stack& stack) {
  const Backend& backend = backend_of(nullptr);
  SequenceDesc desc = stack.desc;
  desc.B = 1;
  desc.T = int64_t{1} << 40;  // a chunk has no more steps than the sequence
  Plan plan;
  check(backend, backend.sequence->plan(&desc, &plan), "Stack");
  return plan.chunk_steps;
}

// The sequences of a call.
struct StackCall {
  SequenceDesc desc;
  const CellTraits& its;
  Element element;
  bool batch_first;
  std::vector<int64_t> lengths;
  std::vector<uint8_t> resets;
  std::vector<int64_t> steps;  // of packed sequences: the first row of each
  Argument x;

  bool packed() const { return desc.is_packed != 0; }

  // x, y or a gradient as kernels see it.
  Array3 seen(const Argument& sequence) const {
    if (!sequence.present()) return {};
    return packed() ? Array3{sequence.data(), 0, sequence.stride(0)} : sequence.array3(batch_first);
  }

  Argument state(const char* name, py::handle value, bool write) const {
    return state_of(name, value, state_units(desc), write);
  }

  Argument cell_state(const char* name, py::handle value, bool write) const {
    if (!its.has_cell_state && !value.is_none()) bad_value(name, no_cell_state(its), "given");
    return state_of(name, value, desc.H, write);
  }

  Argument state_of(const char* name, py::handle value, int64_t units, bool write) const {
    const auto checked = write ? optional_output : optional_input;
    return checked(name, value, element, {{"L*D", desc.layers * desc.directions}, {"B", desc.B}, {"units", units}},
                   host());
  }

  Argument sequence(const char* name, py::handle value, int64_t width, bool write) const {
    const Argument argument =
        packed() ? optional_input(name, value, element, {{"rows", desc.rows}, {"features", width}}, host())
                 : sequence_input(name, value, desc, batch_first, width, "features", element, host());
    if (write) argument.require_contiguous();
    return argument;
  }

  template <class Args>
  void set_marks(Args& args) const {
    if (desc.has_lengths) args.lengths = lengths.data();
    if (packed()) args.steps = steps.data();
    if (desc.has_resets) args.resets = resets.data();
    args.resets_stride0 = desc.B;
    args.resets_stride1 = 1;
  }
};

// Sizes, lengths and steps of packed sequences from their rows and how many of them each step has.
void set_packed(StackCall& call, py::handle batch_sizes) {
  const Argument sizes = input("batch_sizes", batch_sizes, Element::int64, {{"T"}}, host());
  const int64_t T = sizes.size(0), B = T > 0 ? sizes.as<int64_t>()[0] : 0;
  call.desc.is_packed = call.desc.has_lengths = 1;
  call.desc.T = T;
  call.desc.B = B;
  call.lengths.assign(static_cast<size_t>(std::max<int64_t>(B, 0)), 0);
  int64_t before = B;
  for (int64_t t = 0; t < T; ++t) {
    const int64_t now = sizes.as<int64_t>()[t * sizes.stride(0)];
    if (now < 1 || now > before)
      bad_value("batch_sizes", "at least 1 and falling",
                std::to_string(now) + " at step " + std::to_string(t) + ", behind " + std::to_string(before));
    call.steps.push_back(call.desc.rows);
    call.desc.rows += now;
    for (int64_t b = 0; b < now; ++b) call.lengths[static_cast<size_t>(b)] = t + 1;
    before = now;
  }
}

StackCall call_of(const Stack& stack, py::handle x_object, const SequenceOptions& options, py::handle batch_sizes) {
  StackCall call{stack.desc, traits(stack.desc.cell), element_of(stack.desc.dtype), options.batch_first, {}, {}, {},
                 {}};
  SequenceDesc& desc = call.desc;
  if (!batch_sizes.is_none()) {
    if (!options.lengths.is_none() || !options.resets.is_none())
      bad_value("lengths and resets", "None with batch_sizes", "given");
    set_packed(call, batch_sizes);
    call.x = input("x", x_object, call.element, {{"rows", desc.rows}, {"I", desc.I}}, host());
  } else {
    call.x = call.batch_first ? input("x", x_object, call.element, {{"B"}, {"T"}, {"I", desc.I}}, host())
                              : input("x", x_object, call.element, {{"T"}, {"B"}, {"I", desc.I}}, host());
    desc.T = call.x.size(call.batch_first ? 1 : 0);
    desc.B = call.x.size(call.batch_first ? 0 : 1);
    call.lengths = copied_lengths(options.lengths, desc.T, desc.B, host());
    call.resets = copied_resets(options.resets, desc.T, desc.B, call.batch_first, host());
    desc.has_lengths = !call.lengths.empty();
    desc.has_resets = !call.resets.empty();
  }
  check_size(desc, call.its.gates);
  options.describe(desc);
  require_recompute(desc, nullptr);
  if (call.packed() && desc.recompute != 0)
    bad_value("recompute", "0 with batch_sizes", std::to_string(desc.recompute));
  if (!call.its.has_cell_state && desc.zoneout_c > 0) bad_value("zoneout_c", "0: no cell states", "greater");
  desc.weight_key = desc.dropout_key;
  return call;
}

// The block, which must have room for `bytes`.
Argument block_argument(py::handle value, size_t bytes, bool write) {
  const Argument block = write ? output("block", value, Element::uint8, {{"bytes"}}, host())
                               : input("block", value, Element::uint8, {{"bytes"}}, host());
  if (static_cast<size_t>(block.size(0)) < bytes)
    bad_value("block", "of " + std::to_string(bytes) + " bytes at least", std::to_string(block.size(0)));
  if (reinterpret_cast<uintptr_t>(block.data()) % kLine != 0)
    bad_value("block", "aligned to " + std::to_string(kLine) + " bytes", "not");
  return block;
}

struct Weights {
  std::vector<Argument> arguments;
  std::vector<LayerWeights> layers;
};

Weights weights_of(const Stack& stack, const py::list& given) {
  require_count("weights", stack.weights, given.size());
  Weights weights;
  weights.layers.resize(static_cast<size_t>(stack.desc.layers * stack.desc.directions));
  weights.arguments.reserve(stack.weights.size());
  for (size_t i = 0; i < stack.weights.size(); ++i) {
    const StackWeight& its = stack.weights[i];
    weights.arguments.push_back(
        weight_argument(its.name, given[i], its.size, element_of(stack.desc.dtype), host(), false));
    const Argument& a = weights.arguments.back();
    weights.layers[static_cast<size_t>(its.stack)].weight[its.which] = {a.data(), its.size.matrix ? a.stride(0) : 1};
  }
  return weights;
}

void pack_into(const Backend& backend, SequenceDesc desc, const Weights& weights, void* block, CallStream& on) {
  on.offer_to_pack(desc);
  check(backend, backend.sequence->pack(&desc, weights.layers.data(), block, on.stream()), "pack");
}

void pack(const Stack& stack, const py::list& given, py::handle block_object) {
  const Backend& backend = backend_of(nullptr);
  const Weights weights = weights_of(stack, given);
  const Argument block = block_argument(block_object, sizes_of(stack.desc).packed, true);
  const GilRelease release;
  CallStream on(nullptr);
  pack_into(backend, stack.desc, weights, block.data(), on);
  on.finish();
}

void forward_into(const Stack& stack, py::handle given, py::handle block_object, py::handle x_object,
                  py::handle h0_object, py::handle c0_object, py::handle y_object, py::handle hn_object,
                  py::handle cn_object, const SequenceOptions& options, py::handle batch_sizes) {
  const Backend& backend = backend_of(nullptr);
  const StackCall call = call_of(stack, x_object, options, batch_sizes);
  SequenceDesc desc = call.desc;
  const bool packs = !given.is_none();
  const Weights weights = packs ? weights_of(stack, py::cast<py::list>(given)) : Weights{};
  const SequenceSizes need = sizes_of(desc);
  const Argument block = block_argument(block_object, need.packed + need.tape, packs || options.train);
  const Argument h0 = call.state("h0", h0_object, false), c0 = call.cell_state("c0", c0_object, false);
  const Argument y = call.sequence("y", y_object, desc.directions * state_units(desc), true);
  const Argument hn = call.state("hn", hn_object, true), cn = call.cell_state("cn", cn_object, true);
  if (!y.present() || !hn.present() || cn.present() != call.its.has_cell_state)
    bad_value("y, hn and, where the cell has cell states, cn", "arrays", "None");
  std::vector<const Argument*> outputs{&y, &hn, &cn}, inputs{&call.x, &h0, &c0};
  (packs || options.train ? outputs : inputs).push_back(&block);
  for (const Argument& weight : weights.arguments) inputs.push_back(&weight);
  disjoint(outputs, inputs);

  ForwardArgs args{};
  args.x = call.seen(call.x);
  if (h0.present()) args.h0 = h0.array3();
  if (c0.present()) args.c0 = c0.array3();
  args.packed = block.data();
  args.y = call.seen(y);
  args.hn = hn.array3();
  if (cn.present()) args.cn = cn.array3();
  if (options.train) args.tape = block.as<char>() + need.packed;
  call.set_marks(args);
  const GilRelease release;
  CallStream on(nullptr);
  if (packs) {
    SequenceDesc alone = stack.desc;  // of weights without sequences
    alone.weight_key = desc.weight_key;
    pack_into(backend, alone, weights, block.data(), on);
  }
  on.offer(desc);
  const Memory workspace(backend, sizes_of(desc).forward, "workspace of forward");
  check(backend, backend.sequence->forward(&desc, &args, workspace.data(), on.stream()), "forward");
  on.finish();
}

py::object backward_into(const Stack& stack, py::handle block_object, py::handle x_object, py::handle h0_object,
                         py::handle c0_object, py::handle dy_object, py::handle dhn_object, py::handle dcn_object,
                         py::handle dx_object, py::handle dh0_object, py::handle dc0_object, const py::list& dweights,
                         const SequenceOptions& options, py::handle batch_sizes, py::handle wants_flow) {
  const Backend& backend = backend_of(nullptr);
  const StackCall call = call_of(stack, x_object, options, batch_sizes);
  SequenceDesc desc = call.desc;
  desc.flow = flag("flow", wants_flow);
  if (desc.zoneout_mean && desc.zoneout_h > 0 && call.its.tape_blocks == 0)
    bad_value("zoneout", std::string("0 for gradients of ") + call.its.name + " in eval mode",
              std::to_string(desc.zoneout_h) + ", and its tape does not tell a new state from the mean");
  const SequenceSizes need = sizes_of(desc);
  const Argument block = block_argument(block_object, need.packed + need.tape, false);
  const Argument h0 = call.state("h0", h0_object, false), c0 = call.cell_state("c0", c0_object, false);
  const Argument dy = call.sequence("dy", dy_object, desc.directions * state_units(desc), false);
  const Argument dhn = call.state("dhn", dhn_object, false), dcn = call.cell_state("dcn", dcn_object, false);
  const Argument dx = call.sequence("dx", dx_object, desc.I, true);
  const Argument dh0 = call.state("dh0", dh0_object, true), dc0 = call.cell_state("dc0", dc0_object, true);
  if (dh0.present() != dc0.present() && call.its.has_cell_state)
    bad_value("dh0 and dc0", "both arrays or both None", "one of each");
  require_count("dweights", stack.weights, dweights.size());
  std::vector<Argument> grads;
  grads.reserve(stack.weights.size());
  std::vector<LayerGrads> layers(static_cast<size_t>(desc.layers * desc.directions));
  for (size_t i = 0; i < stack.weights.size(); ++i) {
    const StackWeight& its = stack.weights[i];
    grads.push_back(weight_argument("d" + its.name, dweights[i], its.size, call.element, host(), true));
    layers[static_cast<size_t>(its.stack)].weight[its.which] = grads.back().data();
  }
  std::vector<const Argument*> outputs{&dx, &dh0, &dc0};
  for (const Argument& grad : grads) outputs.push_back(&grad);
  disjoint(outputs, {&block, &call.x, &h0, &c0, &dy, &dhn, &dcn});

  BackwardArgs args{};
  args.x = call.seen(call.x);
  if (h0.present()) args.h0 = h0.array3();
  if (c0.present()) args.c0 = c0.array3();
  args.packed = block.data();
  args.tape = block.as<char>() + need.packed;
  args.dy = call.seen(dy);
  if (dhn.present()) args.dhn = dhn.array3();
  if (dcn.present()) args.dcn = dcn.array3();
  args.dx = call.seen(dx);
  if (dh0.present()) args.dh0 = dh0.array3();
  if (dc0.present()) args.dc0 = dc0.array3();
  args.dweights = layers.data();
  call.set_marks(args);
  const Flow flow = desc.flow ? fresh_flow(desc, desc.T) : Flow{};
  args.flow_h = flow.h;
  args.flow_c = flow.c;
  args.flow_stride = desc.T;
  {
    const GilRelease release;
    for (const Argument& grad : grads)
      if (grad.present() && grad.count() > 0)
        std::memset(grad.data(), 0, static_cast<size_t>(grad.count() * bytes_of(call.element)));
    CallStream on(nullptr);
    on.offer(desc);
    const Memory workspace(backend, sizes_of(desc).backward, "workspace of backward");
    check(backend, backend.sequence->backward(&desc, &args, workspace.data(), on.stream()), "backward");
    on.finish();
  }
  return flow.arrays;
}

}  // namespace

void bind_stack(py::module_& m) {
  using py::arg;
  m.def(
      "host_bytes",
      [](py::handle count) { return fresh(Element::uint8, {integer("count", count, 0, int64_t{1} << 48)}, "bytes"); },
      arg("count"));
  py::class_<Stack> stack(m, "Stack");
  seal(stack, &make_stack, arg("cell"), arg("num_layers"), arg("num_directions"), arg("bias"), arg("input_size"),
       arg("hidden_size"), arg("dtype") = "float32", arg("precision") = "ieee", arg("weight_dropout") = 0.0,
       arg("proj_size") = 0);
  stack.def_property_readonly("block_bytes", &block_bytes)
      .def_property_readonly("chunk_rows", &chunk_rows)
      .def_property_readonly("names",
                             [](const Stack& stack) {
                               std::vector<std::string> names;
                               for (const StackWeight& weight : stack.weights) names.push_back(weight.name);
                               return names;
                             })
      .def("pack", &pack, arg("weights"), arg("block"))
      .def("forward_into", &forward_into, arg("weights"), arg("block"), arg("x"), arg("h0"), arg("c0"), arg("y"),
           arg("hn"), arg("cn"), arg("options"), arg("batch_sizes") = py::none())
      .def("backward_into", &backward_into, arg("block"), arg("x"), arg("h0"), arg("c0"), arg("dy"), arg("dhn"),
           arg("dcn"), arg("dx"), arg("dh0"), arg("dc0"), arg("dweights"), arg("options"),
           arg("batch_sizes") = py::none(), arg("flow") = false);
}

}  // namespace fusedrnn
