// A whole step of training on a device: the work of train_step.hpp without anybody waiting for it.
//
// One kernel gathers a call's arguments into memory of the step's own; from there on every call of a form does the same
// with the same addresses, so from its second call on it is a graph that is launched as a whole; loss, norm and final
// states are gathered from where it leaves them. A copy of the arguments costs less than a kernel whose arguments lie
// behind a pointer each would: x is read several times by the step itself, and the stages need not know. What changes
// from step to step otherwise is read from memory that the device itself counts up: dropout keys here, learning rates
// and numbers of updates where the optimizer has them.
//
// Values are looked at on the device. Of one that will not do the loss becomes NaN and the update is skipped; the fault
// is left beside the loss.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "training/host_executor.hpp"
#include "training/layer_chain.hpp"

namespace fusedrnn::training {

// Where an argument of a call is: a device's memory, or contiguous host memory.
struct Source {
  Strided elements = {};
  bool host = false;
};

// What is different at every call; of the shapes that its form has.
struct DeviceCall {
  Strided x, target, mask;
  Source lengths, resets;       // resets as (T, B)
  std::vector<Strided> states;  // h0 and c0 of every recurrent stage
  const std::vector<uint64_t>* keys;
  double clip;  // the gradients' largest norm; below 0: not clipped
  bool skip;    // leave parameters alone if their norm is not finite
};

// Values that are looked at, by the number that a Fault has, in the order in which the separate calls come to them.
enum class Checked : int64_t { ids = 1, lengths, classes };

// What a step leaves.
struct Report {
  double loss, norm;
  Fault fault;
};

// Where a call's results are to go. Nothing is written where there is nullptr.
struct DeviceResults {
  Report* report;
  std::vector<void*> finals;  // hn and cn of every recurrent stage, contiguous
};

class DeviceStep {
 public:
  // `dtype` as of a chain. Learning rates and steps of the updates lie in device memory.
  DeviceStep(const Backend& backend, DType dtype, std::vector<std::unique_ptr<Stage>> stages,
             std::vector<Cleared> gradients, std::vector<UpdateGroup> updates);
  ~DeviceStep();
  DeviceStep(const DeviceStep&) = delete;
  DeviceStep& operator=(const DeviceStep&) = delete;

  const Chain& chain() const { return chain_; }
  UpdateGroup& update(size_t i) { return updates_.at(i); }

  // What was recorded is recorded anew: an update has changed, or a form may be gone.
  void forget();

  // Whether values of its calls are looked at.
  bool looks(const Form& form) const;

  // Makes room for calls of this form, whose x, target, mask and states are contiguous. What it allocates it keeps.
  void fit(const Form& form);

  // Puts a call of a form into the stream; the form must be the same object as long as nothing about it changes. Where
  // the stream is being captured into somebody else's graph, that graph will read the arguments and count the keys up
  // whenever it runs, so nothing may have been different from what the device counted: RuntimeError.
  void run(const Form& form, const DeviceCall& call, const DeviceResults& results, bool captured, Stream stream);

 private:
  // What a graph was made for beside the form.
  struct Key {
    const Form* form;
    bool skip;
    double clip;
    int64_t ignored;
    PlanOverride plan;
    bool operator<(const Key& other) const;
  };
  struct Recorded {
    bool met = false;
    Graph graph = nullptr;
  };

  Graph graph_of(const Form& form, const DeviceCall& call);
  void take(const Form& form, const DeviceCall& call, Stream stream);
  void own(Buffer& kept, const Source& from, int64_t bytes, Stream stream);
  void compute(const Form& form, const DeviceCall& call, Stream stream);
  void check_values(const Form& form, Stream stream);
  void update(const DeviceCall& call, Stream stream);
  void give(const Form& form, const DeviceResults& results, Stream stream);
  int64_t states_of(const Form& form, size_t i) const;
  int64_t steps_of(const Form& form) const { return form.x.shape.size[chain_.batch_first() ? 1 : 0]; }
  int64_t rows_of(const Form& form) const { return form.x.shape.size[chain_.batch_first() ? 0 : 1]; }
  Report* report() const { return static_cast<Report*>(report_.data()); }
  uint64_t* keys() const { return static_cast<uint64_t*>(keys_.data()); }

  const Backend& backend_;
  Chain chain_;
  std::vector<Cleared> gradients_;
  std::vector<UpdateGroup> updates_;
  Buffer x_, target_, mask_, lengths_, resets_, report_, keys_, partials_;
  std::vector<std::unique_ptr<Buffer>> states_, finals_;  // of h and c of every recurrent stage
  std::vector<uint64_t> counted_;                         // what the keys on the device will be
  std::vector<Gather> gathers_;
  std::map<Key, Recorded> graphs_;
};

}  // namespace fusedrnn::training
