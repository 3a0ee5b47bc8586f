// Forms of calls of a training step: calls whose arrays look like those of an earlier, admitted one run without further
// checks of types, shapes and strides. Of any other this says nothing, and Python makes the separate calls, which know
// what is wrong with it.
#pragma once

#include <atomic>
#include <map>
#include <string>
#include <vector>

#include "bindings/arrays/signature.hpp"
#include "bindings/call.hpp"
#include "bindings/ops/losses.hpp"
#include "training/host_executor.hpp"

namespace fusedrnn {

// The arrays of a call, None where absent.
struct Arrays {
  py::handle x, target, mask, lengths, resets;
  const py::list& states;
};

// Where an array's first element is, nullptr for None.
const void* data_of(py::handle array);

// An initial state as its array has it; data is the call's.
struct StateForm {
  bool present = false;
  int64_t stride0 = 0, stride1 = 0;

  Array3 at(py::handle array) const {
    return present ? Array3{const_cast<void*>(data_of(array)), stride0, stride1} : Array3{};
  }
};

struct Admitted {
  training::Form form;
  double flops = 0;
  int64_t T = 0, B = 0;
  int64_t reset_strides[2] = {};  // of t and b
  std::vector<StateForm> states;  // h0 and c0 of every recurrent stage
  // Of a device, whose step gathers its arguments: as the arrays have their elements. The form's are contiguous.
  Strided x = {}, target = {}, mask = {};
};

class Forms {
 public:
  // Of calls of a chain, whose arrays are the device's or, with nullptr, NumPy's.
  Forms(const training::Chain& chain, std::string loss, const Backend* device);

  // The form of such a call, which has just succeeded; nullptr for arrays without elements, which layers treat in ways
  // of their own, arrays of very many axes, and on a device those that a Linear layer takes block by block, whose
  // gradients are other bits where they are gathered first. `full` says whether all earlier forms are gone.
  Admitted* admit(const Arrays& arrays, py::handle ignore_index, bool* full);

  // The form of a call, nullptr where there is none.
  Admitted* find(const Arrays& arrays, bool ignores);

 private:
  bool describe(const Arrays& arrays, bool ignores, Signature& signature) const;
  Admitted admitted(const Arrays& arrays, const Argument& x, py::handle ignore_index) const;

  const training::Chain& chain_;
  const std::string loss_;
  const Backend* const device_;
  std::map<Signature, Admitted> forms_;
  std::pair<const Signature, Admitted>* current_ = nullptr;
  Signature asked_;
};

// Gradients to clear, from Python's list of their arrays, which are added to `kept`.
std::vector<training::Cleared> gradient_blocks(const py::list& gradients, const Backend* device,
                                               std::vector<Argument>& kept);

// Whether any of a call's arrays is a view of gradients, which a step clears before it reads anything.
bool in_gradients(const std::vector<training::Cleared>& gradients, const Arrays& arrays);

// The resets of a call in host memory, as (T, B).
void copy_resets(const Admitted& form, const void* from, std::vector<uint8_t>& to);

// New arrays for a stage's final states, where the call's arrays are; added to `made`, c only where the cell has one.
struct FinalStates {
  void *h = nullptr, *c = nullptr;
};
FinalStates fresh_finals(const Backend* device, const training::RecurrentStage& stage, int64_t B, py::list& made);

// float32 or float64.
DType dtype_named(py::handle dtype);

// Two calls of a step at once would share buffers: the second one is not for it.
struct Busy {
  explicit Busy(std::atomic<bool>& flag) : flag(flag), mine(!flag.exchange(true, std::memory_order_acquire)) {}
  ~Busy() {
    if (mine) flag.store(false, std::memory_order_release);
  }
  std::atomic<bool>& flag;
  const bool mine;
};

void bind_device_step(py::module_& m);

}  // namespace fusedrnn
