// A whole step of training as one call: zero gradients, forward, loss, backward, norm, update. This one is for backends
// in host memory; device_step.hpp is for a device.
//
// It makes the calls of the backend that the separate functions would make, in their order, so it has their bits. What
// it saves is what lies between them: arrays, tapes and scratch are kept from step to step, nothing is looked up or
// checked twice, and one lease of the team serves all.
#pragma once

#include <memory>
#include <vector>

#include "training/layer_chain.hpp"
#include "training/norm.hpp"

namespace fusedrnn::training {

// What is different at every call.
struct Call {
  Inputs inputs;
  bool measure;  // the norm of the gradients
  double clip;   // their largest norm; below 0: not clipped
  bool skip;     // leave parameters alone if the norm is not finite
};

struct Outcome {
  double loss, norm;
  bool updated;
};

// Gradients to clear.
struct Cleared {
  void* data;
  size_t bytes;
};

class TrainStep {
 public:
  // `dtype` as of a chain; updates and what they point to are the caller's to keep up to date.
  TrainStep(const Backend& backend, DType dtype, std::vector<std::unique_ptr<Stage>> stages,
            std::vector<Cleared> gradients)
      : backend_(backend),
        chain_(backend, dtype, std::move(stages)),
        gradients_(std::move(gradients)),
        partials_(backend) {}

  Chain& chain() { return chain_; }
  const Chain& chain() const { return chain_; }
  std::vector<OptimizerArgs>& updates() { return updates_; }

  void add_update(const OptimizerArgs& update);

  // As Chain's.
  void fit(const Form& form, int32_t threads);

  // Work of a step of the form last fitted, for worth_waking.
  double flops() const { return flops_; }

  // The form must be the same object as long as nothing about it changes.
  Outcome run(const Form& form, const Call& call, Team* team);

 private:
  void plan_preparation();
  void plan_updates(int32_t threads);
  void prepare(Team* team);
  void update(const double* factor, Team* team);

  const Backend& backend_;
  Chain chain_;
  std::vector<Cleared> gradients_;
  std::vector<OptimizerArgs> updates_;
  std::vector<Stage*> large_, small_;  // stages with preparation: each with all threads, or one thread each
  // Pieces of updates_, each for one thread, where all of them together are small; else none. One thread alone needs
  // none and leaves them.
  struct Piece {
    size_t update;
    std::vector<Segment> segments;
  };
  std::vector<Piece> pieces_;
  int32_t shared_by_ = 0;
  Gradients measured_;
  Buffer partials_;
  double flops_ = 0;
};

}  // namespace fusedrnn::training
