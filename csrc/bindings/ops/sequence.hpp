// What the sequence functions hand to Python: packed weights and tapes, opaque blocks of a backend's memory.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/traits.hpp"
#include "bindings/call.hpp"

namespace fusedrnn {

// A weight of a stack: which of the cell's, of which layer and direction (layer * D + direction), its name in Python.
struct StackWeight {
  int32_t stack, which;
  std::string name;
  WeightSize size;
};

// All weights of a stack in the order of Python's lists. Of `desc`: cell, layers, directions, has_bias, I, H and P.
std::vector<StackWeight> stack_weights(const SequenceDesc& desc);

// The units of h of a stack whose R has so many columns, as a descriptor has them. ValueError where the cell cannot
// project H units to so many, or the device cannot.
int64_t projected_units(const SequenceDesc& desc, int64_t columns, const Backend* device);

// The same of a caller's proj_size, which is 0 for a cell that projects nothing.
int64_t projection_asked(const SequenceDesc& desc, py::handle proj_size, const Backend* device);

// ValueError where the bytes of all sequences of a stack could overflow; before anything is laid out.
void check_size(const SequenceDesc& desc, int64_t gates);

// What a list of `count` arrays must be for the weights of a stack.
void require_count(const char* name, const std::vector<StackWeight>& weights, size_t count);

// A weight of a stack, or its gradient, which may be None.
Argument weight_argument(const std::string& name, py::handle value, const WeightSize& size, Element element,
                         Location location, bool grad);

// x, y or a gradient of one: (T, B, width), or (B, T, width) with batch_first; or None.
Argument sequence_input(const char* name, py::handle value, const SequenceDesc& desc, bool batch_first, int64_t width,
                        const char* feature, Element element, Location location);

// Copies in host memory, checked, empty for None; resets as (T, B).
std::vector<int64_t> copied_lengths(py::handle value, int64_t T, int64_t B, Location location);
std::vector<uint8_t> copied_resets(py::handle value, int64_t T, int64_t B, bool batch_first, Location location);

// What is wrong with an argument for cell states.
std::string no_cell_state(const CellTraits& cell);

// What forward is given of its sequences besides x and the states. A value: nothing changes one.
struct SequenceOptions {
  py::object lengths, resets;  // arrays or None, which are checked against x
  bool batch_first;
  double dropout;
  uint64_t dropout_key;
  bool train;
  double recurrent_dropout, zoneout_c, zoneout_h;
  bool dropout_per_sequence;
  int64_t first_row;
  int64_t recompute;
  bool zoneout_mean;

  // What of them a descriptor has.
  void describe(SequenceDesc& desc) const;
};

// ValueError where a stack is to be regularised, or computed again, by what its device or directions have not.
void require_regularisers(const SequenceDesc& desc, const Backend* device);
void require_recompute(const SequenceDesc& desc, const Backend* device);

// The weights of a stack in the layout of the backend that packed them, which is the one that will read them.
struct PackedWeights {
  const Backend& backend;
  const Backend* device;  // the same where arrays are device arrays, nullptr where they are NumPy's
  int32_t index;          // of that device
  SequenceDesc desc;      // sizes of the stack; T and B are 0, the cell one that shares these weights
  std::vector<StackWeight> weights;
  std::unique_ptr<Memory> memory;
};

// Everything backward needs. x is borrowed; states, lengths and resets are copied, so that writing to them later is
// safe.
struct Tape {
  std::shared_ptr<PackedWeights> packed;
  SequenceDesc desc;
  bool batch_first;
  Argument x;
  std::unique_ptr<Memory> memory, h0, c0;                 // states (L * D, B, P or H), null where absent
  std::vector<int64_t> lengths;                           // empty when absent
  std::vector<uint8_t> resets;                            // (T, B), empty when absent
  std::unique_ptr<Memory> device_lengths, device_resets;  // the same for a device

  size_t bytes() const;
};

// Where the norms of gradient flow go, and as Python has them: (h, c or None), each (L, D, T); or None.
struct Flow {
  double *h = nullptr, *c = nullptr;
  py::object arrays = py::none();
};
Flow fresh_flow(const SequenceDesc& desc, int64_t T);

// ValueError when there is no such cell, or no such precision.
const CellTraits& cell_named(const std::string& name);
Precision precision_named(const std::string& name);

// Makes `algo` the plan of the stack, whatever else is forced; "auto" leaves the choice. ValueError for another name.
void require_plan(SequenceDesc& desc, const std::string& algo);

// Copies: cell states (L * D, T, B, H) and gates (L * D, T, B, blocks * H), zeros past a row's length, None where the
// cell has none.
py::object tape_cells(const Tape& tape);
py::object tape_gates(const Tape& tape);

void bind_plan(py::module_& m);
void bind_stack(py::module_& m);  // stack.cpp

}  // namespace fusedrnn
