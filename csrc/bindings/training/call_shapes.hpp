// Call shapes of a training step: calls with the loss of an earlier, registered one, and with arrays of its types,
// shapes and strides, run without further checks of them. For any other `find` returns nullptr, and Python makes the
// separate calls, which report what is wrong with it.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "bindings/arrays/signature.hpp"
#include "bindings/call.hpp"
#include "bindings/ops/losses.hpp"
#include "training/executor.hpp"

namespace fusedrnn {

// What a call is given, None where absent. `states` are h0 and c0 of every recurrent layer, or None: empty here.
struct Arrays {
  // From Python's tuple of them in this order.
  explicit Arrays(const py::tuple& given)
      : x(item(given, 0)),
        target(item(given, 1)),
        mask(item(given, 2)),
        lengths(item(given, 3)),
        resets(item(given, 4)),
        loss(py::cast<const Loss&>(item(given, 5))),
        states(item(given, 6).is_none() ? py::list() : py::cast<py::list>(item(given, 6))) {}

  py::handle x, target, mask, lengths, resets;
  const Loss& loss;
  py::list states;

 private:
  static py::handle item(const py::tuple& given, Py_ssize_t i) { return PyTuple_GetItem(given.ptr(), i); }
};

// Where an array's first element is, nullptr for None.
const void* data_of(py::handle array);

// An initial state as its array has it; data is the call's.
struct StateShape {
  bool present = false;
  int64_t stride0 = 0, stride1 = 0;

  Array3 at(py::handle array) const {
    return present ? Array3{const_cast<void*>(data_of(array)), stride0, stride1} : Array3{};
  }
};

// A registered call shape, and what is known of the arrays of such calls beside it.
struct Entry {
  training::CallShape shape;  // on a device contiguous: the step gathers its arguments
  double flops = 0;
  int64_t T = 0, B = 0;
  int64_t reset_strides[2] = {};               // of t and b
  std::vector<StateShape> states;              // h0 and c0 of every recurrent layer
  Strided x = {}, target = {}, mask = {};      // as the arrays have their elements
  std::shared_ptr<const LossWeights> weights;  // what the loss of the shape points to
};

class CallShapeCache {
 public:
  // For calls of a chain, whose arrays are the device's or, with nullptr, NumPy's.
  CallShapeCache(const training::LayerChain& chain, const Backend* device) : chain_(chain), device_(device) {}

  // The entry of such a call, which has just succeeded; nullptr for arrays without elements, which layers treat in ways
  // of their own, arrays of very many axes, a loss of many numbers, and on a device arrays that a Linear layer takes
  // block by block, whose gradients are other bits where they are gathered first. `full` says whether all earlier
  // entries are gone.
  Entry* register_shape(const Arrays& arrays, bool* full);

  // The entry of a call, nullptr where there is none.
  Entry* find(const Arrays& arrays);

 private:
  static bool describe(const Arrays& arrays, Signature& signature);
  Entry make_entry(const Arrays& arrays, const Argument& x) const;

  const training::LayerChain& chain_;
  const Backend* const device_;
  std::map<Signature, Entry> entries_;
  std::pair<const Signature, Entry>* current_ = nullptr;
  Signature asked_;
};

// Gradients to clear, from Python's list of their arrays, which are added to `kept`.
std::vector<training::Cleared> gradient_blocks(const py::list& gradients, const Backend* device,
                                               std::vector<Argument>& kept);

// Whether any of a call's arrays is a view of gradients, which a step clears before it reads anything.
bool in_gradients(const std::vector<training::Cleared>& gradients, const Arrays& arrays);

// The resets of a call in host memory, as (T, B).
void copy_resets(const Entry& entry, const void* from, std::vector<uint8_t>& to);

// New arrays for a layer's final states, where the call's arrays are; added to `made`, c only where the cell has one.
struct FinalStates {
  void *h = nullptr, *c = nullptr;
};
FinalStates fresh_finals(const Backend* device, const training::RecurrentLayer& layer, int64_t B, py::list& made);

// float32 or float64.
DType dtype_named(py::handle dtype);

}  // namespace fusedrnn
