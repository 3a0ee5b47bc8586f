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

// All weights of a stack in the order of Python's lists. Of `desc`: cell, layers, directions, has_bias, I and H.
std::vector<StackWeight> stack_weights(const SequenceDesc& desc);

// What forward is told of its sequences beside x and the states. A value: nothing changes one.
struct SequenceOptions {
  py::object lengths, resets;  // arrays or None, which are checked against x
  bool batch_first;
  double dropout;
  uint64_t dropout_key;
  bool train;
};

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
  std::unique_ptr<Memory> memory, h0, c0;                 // states (L * D, B, H), null where absent
  std::vector<int64_t> lengths;                           // empty when absent
  std::vector<uint8_t> resets;                            // (T, B), empty when absent
  std::unique_ptr<Memory> device_lengths, device_resets;  // the same for a device

  size_t bytes() const;
};

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

}  // namespace fusedrnn
