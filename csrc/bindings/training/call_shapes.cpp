#include "bindings/training/call_shapes.hpp"

#include <algorithm>

#include "backend/traits.hpp"
#include "bindings/arrays/device_array.hpp"

namespace fusedrnn {

using namespace training;

namespace {

constexpr size_t kMostEntries = 256;  // at a time: more shapes than that begin anew

// The same rows without gaps.
Strided without_gaps(const Strided& s) {
  Strided dense = {nullptr, s.rows, s.width, 0, {}, {}};
  if (s.rows > 1) {
    dense.axes = 1;
    dense.size[0] = s.rows;
    dense.stride[0] = s.width;
  }
  return dense;
}

void make_contiguous(Entry& a) {
  a.shape.x = contiguous(a.shape.x.shape, nullptr);
  a.shape.loss.target = without_gaps(a.target);
  a.shape.loss.mask = without_gaps(a.mask);
}

}  // namespace

const void* data_of(py::handle array) {
  if (array.is_none()) return nullptr;
  if (py::isinstance<py::array>(array)) return py::reinterpret_borrow<py::array>(array).data();
  return array.cast<const DeviceArray&>().data();
}

DType dtype_named(py::handle dtype) {
  return py::cast<std::string>(py::str(dtype)) == "float32" ? DType::float32 : DType::float64;
}

std::vector<Cleared> gradient_blocks(const py::list& gradients, const Backend* device, std::vector<Argument>& kept) {
  std::vector<Cleared> blocks;
  for (const py::handle value : gradients) {
    const Argument grad = output("grad", value, any_float, {{"..."}}, device);
    blocks.push_back({grad.data(), static_cast<size_t>(grad.count() * bytes_of(grad.element()))});
    kept.push_back(grad);
  }
  return blocks;
}

bool in_gradients(const std::vector<Cleared>& gradients, const Arrays& arrays) {
  const auto within = [&](py::handle array) {
    const char* data = static_cast<const char*>(data_of(array));
    return std::any_of(gradients.begin(), gradients.end(), [&](const Cleared& block) {
      const char* first = static_cast<const char*>(block.data);
      return data >= first && data < first + block.bytes;
    });
  };
  return within(arrays.x) || within(arrays.target) || within(arrays.mask) ||
         std::any_of(arrays.states.begin(), arrays.states.end(), within);
}

void copy_resets(const Entry& entry, const void* from, std::vector<uint8_t>& to) {
  const auto* data = static_cast<const uint8_t*>(from);
  to.resize(static_cast<size_t>(entry.T * entry.B));
  for (int64_t t = 0; t < entry.T; ++t)
    for (int64_t b = 0; b < entry.B; ++b)
      to[static_cast<size_t>(t * entry.B + b)] = data[t * entry.reset_strides[0] + b * entry.reset_strides[1]];
}

FinalStates fresh_finals(const Backend* device, const RecurrentLayer& layer, int64_t B, py::list& made) {
  const SequenceDesc& desc = layer.desc();
  const auto fresh_state = [&](const char* name) {
    const Result state = fresh_on(device, element_of(desc.dtype), {layer.stacks(), B, desc.H}, name);
    made.append(state.object);
    return state.data;
  };
  FinalStates final;
  final.h = fresh_state("hn");
  if (traits(desc.cell).has_cell_state) final.c = fresh_state("cn");
  return final;
}

bool CallShapeCache::describe(const Arrays& arrays, Signature& signature) {
  signature.clear();
  for (const int64_t word : arrays.loss.words) signature.add(word);
  bool known = signature.add(arrays.x) && signature.add(arrays.target) && signature.add(arrays.mask) &&
               signature.add(arrays.lengths) && signature.add(arrays.resets);
  for (const py::handle state : arrays.states) known = known && signature.add(state);
  return known;
}

Entry* CallShapeCache::register_shape(const Arrays& arrays, bool* full) {
  Signature signature;
  if (arrays.loss.spec.reduction == Reduction::none || !describe(arrays, signature)) return nullptr;
  const Argument x =
      input("x", arrays.x, chain_.embedding() ? Element::int64 : element_of(chain_.dtype()), {{"..."}}, device_);
  if (x.rank() < 1 || x.rank() >= kMaxRank || x.count() == 0) return nullptr;
  if (device_ != nullptr && rows_of(x).axes > 1 && dynamic_cast<const LinearLayer*>(chain_.layers().front().get()))
    return nullptr;
  *full = entries_.size() == kMostEntries;
  if (*full) {
    entries_.clear();
    current_ = nullptr;
  }
  current_ = &*entries_.emplace(std::move(signature), make_entry(arrays, x)).first;
  return &current_->second;
}

Entry* CallShapeCache::find(const Arrays& arrays) {
  if (!describe(arrays, asked_)) return nullptr;
  if (current_ && current_->first == asked_) return &current_->second;
  const auto found = entries_.find(asked_);
  if (found == entries_.end()) return nullptr;
  current_ = &*found;
  return &current_->second;
}

Entry CallShapeCache::make_entry(const Arrays& arrays, const Argument& x) const {
  const bool batch_first = chain_.batch_first();
  Entry a;
  View& view = a.shape.x;
  view.shape.rank = static_cast<int32_t>(x.rank());
  for (int32_t i = 0; i < view.shape.rank; ++i) view.shape.size[i] = x.size(i);
  view.rows = rows_of(x);
  view.elements = elements_of(x);
  if (view.shape.rank == 3) view.sequence = x.array3();
  if (view.shape.rank >= 2) {
    a.T = x.size(batch_first ? 1 : 0);
    a.B = x.size(batch_first ? 0 : 1);
  }
  a.shape.lengths = !arrays.lengths.is_none();
  a.shape.resets = !arrays.resets.is_none();
  if (a.shape.resets) {
    const Argument resets = input("resets", arrays.resets, Element::boolean, {{"..."}}, device_of(arrays.resets));
    a.reset_strides[0] = resets.stride(batch_first ? 1 : 0);
    a.reset_strides[1] = resets.stride(batch_first ? 0 : 1);
  }
  for (const py::handle value : arrays.states) {
    const Argument state = optional_input("state", value, element_of(chain_.dtype()), {{"L*D"}, {"B"}, {"H"}}, device_);
    a.states.push_back(state.present() ? StateShape{true, state.stride(0), state.stride(1)} : StateShape{});
  }
  Shape shape = view.shape;
  for (const auto& layer : chain_.layers()) shape = layer->output(shape);
  const View pred = contiguous(shape, nullptr);
  a.shape.loss = loss_arguments(
      arrays.loss, {chain_.dtype(), {shape.size, shape.size + shape.rank}, pred.rows, pred.elements, device_},
      arrays.target, arrays.mask);
  a.weights = arrays.loss.weights;
  a.x = a.shape.x.elements;
  a.target = a.shape.loss.target;
  a.mask = a.shape.loss.mask;
  if (device_ != nullptr) make_contiguous(a);
  return a;
}

}  // namespace fusedrnn
