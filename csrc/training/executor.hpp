// What runs a whole training step: zero gradients, forward, loss, backward, norm, update. HostExecutor is for backends
// in host memory, GraphExecutor for a device. Both make the calls of the backend that the separate functions would
// make, in their order, so a step has their bits.
#pragma once

#include <memory>
#include <vector>

#include "training/layer_chain.hpp"

namespace fusedrnn::training {

// Gradients to clear.
struct Cleared {
  void* data;
  size_t bytes;
};

// Where an argument of a call is: the backend's memory or, beside a device, contiguous host memory.
struct Source {
  Strided elements = {};
  bool host = false;
};

// What is different at every call. Arrays have the sizes and strides that the call shape was made of.
struct Call {
  Strided x = {}, target = {}, mask = {};
  Source lengths, resets;      // resets as (T, B), for a host executor contiguous
  std::vector<Array3> states;  // h0 and c0 of every recurrent layer, absent: zeros; or none at all
  std::vector<uint64_t> keys;  // of the layers that draw a dropout mask
  std::vector<int64_t> steps;  // the number of each update, where updates do not count it themselves
  double clip = -1;            // the gradients' largest norm; below 0: not clipped
  double value = -1;           // what gradients are cut to before all else; below 0: they are not
  bool skip = false;           // leave parameters alone if their norm is not finite
  bool captured = false;       // the stream is being captured into a graph of the caller's

  bool measures() const { return clip >= 0 || skip; }
};

// What a step leaves. The norm is written where the call measures.
struct Report {
  double loss, norm;
  Fault fault;
};

// Where a call's results are to go, in the backend's memory. Nothing is written where there is nullptr.
struct Results {
  Report* report = nullptr;
  std::vector<void*> finals;  // hn and cn of every recurrent layer, contiguous; or none at all
  std::vector<double*> flow;  // of h and c of every recurrent layer (HostExecutor); or none at all
};

class Executor {
 public:
  virtual ~Executor() = default;
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  const LayerChain& chain() const { return chain_; }

  // The options of an update from the next call on.
  virtual void set_update(size_t i, const OptimizerArgs& update) { updates_.at(i).update = update; }

  // Makes room for calls of this shape with so many threads. Memory grows to the largest shape; a smaller one, or one
  // seen before, allocates nothing. Throws std::bad_alloc.
  virtual void fit(const CallShape& shape, int32_t threads) = 0;

  // Work of a step of the shape last fitted, for worth_waking.
  virtual double flops() const { return 0; }

  // Whether ids, lengths and classes of such calls are checked by the step itself, which then skips the update.
  virtual bool validates_values(const CallShape&) const { return false; }

  // Makes a step, or puts one into the device's stream. The shape must be the same object as long as nothing about it
  // changes.
  virtual void run(const CallShape& shape, const Call& call, const Results& results, Stream stream) = 0;

  // Call shapes that were fitted may be gone.
  virtual void forget() { chain_.forget_shape(); }

 protected:
  // Cuts the gradients that are updated to [-value, value] where the call asks for it.
  void clamp(const Call& call, Stream stream) const {
    if (call.value < 0) return;
    for (const UpdateGroup& group : updates_)
      check(backend_,
            backend_.optim->clip_value(group.update.dtype, group.update.segments, group.update.segment, call.value,
                                       stream),
            "train_step");
  }

  // `dtype` as a chain's; what the updates point to is the caller's to keep.
  Executor(const Backend& backend, DType dtype, std::vector<std::unique_ptr<Layer>> layers,
           std::vector<Cleared> gradients, std::vector<UpdateGroup> updates)
      : backend_(backend),
        chain_(backend, dtype, std::move(layers)),
        gradients_(std::move(gradients)),
        updates_(std::move(updates)) {}

  const Backend& backend_;
  LayerChain chain_;
  const std::vector<Cleared> gradients_;
  std::vector<UpdateGroup> updates_;
};

}  // namespace fusedrnn::training
