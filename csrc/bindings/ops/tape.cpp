// What a tape shows of itself, and backward of the gradients on its way.
#include <cstring>

#include "backend/traits.hpp"
#include "bindings/arrays/device_array.hpp"
#include "bindings/ops/sequence.hpp"
#include "runtime/error.hpp"

namespace fusedrnn {
namespace {

void require_all_steps(const Tape& tape) {
  SequenceDesc whole = tape.desc;
  whole.recompute = 0;
  SequenceSizes here, all;
  const Backend& backend = tape.packed->backend;
  check(backend, backend.sequence->sizes(&tape.desc, &here), "tape");
  check(backend, backend.sequence->sizes(&whole, &all), "tape");
  if (here.tape != all.tape)
    throw std::runtime_error("with recompute a tape has neither cells nor gates: backward computes them again");
}

// A copy of what `pick` finds in each layer and direction of the tape, zeros past a row's length.
template <class Pick>
py::object tape_array(const Tape& tape, int64_t blocks, Pick pick) {
  const SequenceDesc& desc = tape.desc;
  require_all_steps(tape);
  const Backend& backend = tape.packed->backend;
  const int64_t stacks = desc.layers * desc.directions, width = blocks * desc.H;
  const Element element = element_of(desc.dtype);
  py::array copy = fresh(element, {stacks, desc.T, desc.B, width}, "copy of the tape");
  char* to = static_cast<char*>(copy.mutable_data());
  const void* content = tape.memory->read();
  std::vector<char> on_host;  // a tape holds no addresses: views of a copy of its bytes are as good
  if (tape.packed->device != nullptr) {
    on_host.resize(tape.memory->bytes());
    copy_to_host(backend, on_host.data(), content, on_host.size(), "a tape's contents");
    drop_uses();
    content = on_host.data();
  }
  const size_t row = static_cast<size_t>(width * bytes_of(element));
  for (int32_t i = 0; i < stacks; ++i) {
    TapeView seen;
    check(backend, backend.sequence->tape_view(&desc, content, i, &seen), "tape");
    const Array3 from = pick(seen);
    for (int64_t t = 0; t < desc.T; ++t)
      for (int64_t b = 0; b < desc.B; ++b, to += row) {
        if (desc.has_lengths && t >= tape.lengths[static_cast<size_t>(b)])
          std::memset(to, 0, row);
        else
          std::memcpy(to, static_cast<char*>(from.data) + (t * from.stride0 + b * from.stride1) * bytes_of(element),
                      row);
      }
  }
  return copy;
}

}  // namespace

size_t Tape::bytes() const {
  size_t sum = memory->bytes() + lengths.size() * sizeof(int64_t) + resets.size();
  for (const auto* part : {&h0, &c0, &device_lengths, &device_resets}) sum += *part ? (*part)->bytes() : 0;
  return sum;
}

py::object tape_cells(const Tape& tape) {
  if (!traits(tape.desc.cell).has_cell_state) return py::none();
  return tape_array(tape, 1, [](const TapeView& seen) { return seen.cells; });
}

py::object tape_gates(const Tape& tape) {
  require_all_steps(tape);
  TapeView seen;
  check(tape.packed->backend, tape.packed->backend.sequence->tape_view(&tape.desc, tape.memory->read(), 0, &seen),
        "tape");
  if (seen.gate_blocks == 0) return py::none();
  return tape_array(tape, seen.gate_blocks, [](const TapeView& each) { return each.gates; });
}

Flow fresh_flow(const SequenceDesc& desc, int64_t T) {
  const auto norms = [&] { return fresh(Element::float64, {desc.layers, desc.directions, T}, "flow"); };
  py::array h = norms();
  Flow flow{static_cast<double*>(h.mutable_data()), nullptr, py::none()};
  py::object c = py::none();
  if (traits(desc.cell).has_cell_state) {
    py::array own = norms();
    flow.c = static_cast<double*>(own.mutable_data());
    c = own;
  }
  flow.arrays = py::make_tuple(h, c);
  return flow;
}

}  // namespace fusedrnn
