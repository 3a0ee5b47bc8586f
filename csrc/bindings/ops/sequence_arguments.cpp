// Arguments that every call of a recurrent stack has: weights, lengths, resets, sequences.
#include "bindings/arrays/checks.hpp"
#include "bindings/arrays/device_array.hpp"
#include "bindings/ops/sequence.hpp"

namespace fusedrnn {
namespace {

// An argument's first element in host memory.
template <class T>
const T* first_on_host(const Argument& argument, const Backend* device, std::vector<char>& kept) {
  std::vector<int64_t> strides;
  for (int64_t axis = 0; axis < argument.rank(); ++axis) strides.push_back(argument.stride(axis));
  const size_t bytes = span_of(argument.sizes(), strides, bytes_of(argument.element()));
  return static_cast<const T*>(on_host(argument.data(), bytes, device, kept, argument.name().c_str()));
}

}  // namespace

// Elements of all leading axes as bytes: an upper bound that must not overflow, checked before anything is laid out.
void check_size(const SequenceDesc& desc, int64_t gates) {
  product("T * B * (G + 2) * D * H", {desc.T, desc.B, gates + 2, desc.directions, desc.layers, desc.H, 8});
}

Argument weight_argument(const std::string& name, py::handle value, const WeightSize& size, Element element,
                         Location location, bool grad) {
  const auto checked = grad ? optional_output : input;
  const Axis rows = {size.row_words, size.rows}, columns = {size.column_words, size.columns};
  return size.matrix ? checked(name, value, element, {rows, columns}, location)
                     : checked(name, value, element, {rows}, location);
}

// What a list of `count` arrays must be for the weights of a stack.
void require_count(const char* name, const std::vector<StackWeight>& weights, size_t count) {
  if (count != weights.size())
    bad_value(name, "a list of " + std::to_string(weights.size()) + " arrays", "of " + std::to_string(count));
}

std::vector<int64_t> copied_lengths(py::handle value, int64_t T, int64_t B, Location location) {
  if (value.is_none()) return {};
  const Argument lengths = integers("lengths", value, {{"B", B}}, location);
  std::vector<char> kept;
  const int64_t* data = first_on_host<int64_t>(lengths, location.device, kept);
  require_lengths(data, T, B);
  return std::vector<int64_t>(data, data + B);
}

std::vector<uint8_t> copied_resets(py::handle value, int64_t T, int64_t B, bool batch_first, Location location) {
  const Argument resets = batch_first
                              ? optional_input("resets", value, Element::boolean, {{"B", B}, {"T", T}}, location)
                              : optional_input("resets", value, Element::boolean, {{"T", T}, {"B", B}}, location);
  if (!resets.present()) return {};
  std::vector<char> kept;
  const uint8_t* data = first_on_host<uint8_t>(resets, location.device, kept);
  std::vector<uint8_t> copy(static_cast<size_t>(T * B));
  const int64_t step = resets.stride(batch_first ? 1 : 0), row = resets.stride(batch_first ? 0 : 1);
  for (int64_t t = 0; t < T; ++t)
    for (int64_t b = 0; b < B; ++b) copy[static_cast<size_t>(t * B + b)] = data[t * step + b * row];
  return copy;
}

void SequenceOptions::describe(SequenceDesc& desc) const {
  desc.train = train;
  desc.dropout = train ? dropout : 0.0;
  desc.dropout_key = dropout_key;
  desc.dropout_per_sequence = dropout_per_sequence;
  desc.recurrent_dropout = train ? recurrent_dropout : 0.0;
  desc.zoneout_c = zoneout_c;
  desc.zoneout_h = zoneout_h;
  desc.first_row = first_row;
  desc.recompute = train ? recompute : 0;
  desc.zoneout_mean = zoneout_mean;
}

void require_regularisers(const SequenceDesc& desc, const Backend* device) {
  if (device == nullptr) return;
  const auto require_zero = [](const char* name, double p) {
    if (p > 0) bad_value(name, "0 on a CUDA device (it is not on CUDA yet)", std::to_string(p));
  };
  require_zero("recurrent_dropout", desc.recurrent_dropout);
  require_zero("zoneout", desc.zoneout_c > 0 ? desc.zoneout_c : desc.zoneout_h);
  require_zero("weight_dropout", desc.weight_dropout);
  if (desc.dropout_per_sequence)
    bad_value("dropout_mode", "'step' on a CUDA device ('sequence' is not on CUDA yet)", "'sequence'");
}

int64_t projection_asked(const SequenceDesc& desc, py::handle proj_size, const Backend* device) {
  const int64_t P = integer("proj_size", proj_size, 0, int64_t{1} << 62);
  const CellTraits& its = traits(desc.cell);
  if (its.projection < 0 && P > 0)
    bad_value("proj_size", std::string("0: ") + its.name + " projects no states", std::to_string(P));
  return projected_units(desc, P, device);
}

int64_t projected_units(const SequenceDesc& desc, int64_t columns, const Backend* device) {
  if (traits(desc.cell).projection < 0) return 0;
  const std::string was = std::to_string(columns);
  if (device != nullptr) bad_value("proj_size", "0 on a CUDA device (it is not on CUDA yet)", was);
  if (columns < 1 || columns >= desc.H)
    bad_value("proj_size", "at least 1 and less than hidden_size, " + std::to_string(desc.H), was);
  return columns;
}

void require_recompute(const SequenceDesc& desc, const Backend* device) {
  const auto require_none = [&](const char* expected) {
    bad_value("recompute", expected, std::to_string(desc.recompute));
  };
  if (desc.recompute == 0) return;
  if (device != nullptr) require_none("0 on a CUDA device (it is not on CUDA yet)");
  if (desc.directions > 1) require_none("0 with two directions");
}

std::string no_cell_state(const CellTraits& cell) { return std::string("None: ") + cell.name + " has no cell states"; }

Argument sequence_input(const char* name, py::handle value, const SequenceDesc& desc, bool batch_first, int64_t width,
                        const char* feature, Element element, Location location) {
  const int64_t T = desc.T, B = desc.B;
  return batch_first ? optional_input(name, value, element, {{"B", B}, {"T", T}, {feature, width}}, location)
                     : optional_input(name, value, element, {{"T", T}, {"B", B}, {feature, width}}, location);
}

std::vector<StackWeight> stack_weights(const SequenceDesc& desc) {
  const WeightSpecs& specs = traits(desc.cell).weights;
  std::vector<StackWeight> weights;
  for (int32_t stack = 0; stack < desc.layers * desc.directions; ++stack) {
    const int32_t layer = stack / desc.directions;
    const std::string suffix = "_l" + std::to_string(layer) + (stack % desc.directions ? "_reverse" : "");
    const int64_t P = state_units(desc), inputs = layer == 0 ? desc.I : desc.directions * P;
    for (int32_t i = 0; i < specs.count; ++i)
      if (desc.has_bias || !is_bias(specs.spec[i]))
        weights.push_back({stack, i, specs.spec[i].name + suffix, weight_size(specs.spec[i], inputs, desc.H, P)});
  }
  return weights;
}

}  // namespace fusedrnn
