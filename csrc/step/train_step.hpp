// A whole step of training as one call: zero gradients, forward, loss, backward, norm, update.
//
// It makes the calls of the backend that the separate functions would make, in their order, so it has their bits. What
// it saves is what lies between them: arrays, tapes and scratch are kept from step to step, nothing is looked up or
// checked twice, and one lease of the team serves all.
#pragma once

#include <memory>
#include <vector>

#include "dispatch/forced_plan.hpp"
#include "step/norm.hpp"
#include "step/stage.hpp"

namespace fusedrnn::step {

// One shape of call: its input, and its loss but for what is different at every call. Pointers are not looked at.
struct Form {
  View x;
  LossArgs loss = {};
  bool lengths = false, resets = false;
};

// What is different at every call.
struct Call {
  const void *x, *target, *mask;
  Sequence sequence;
  bool measure;  // the norm of the gradients
  double clip;   // their largest norm; below 0: not clipped
  bool skip;     // leave parameters alone if the norm is not finite
};

struct Outcome {
  double loss, norm;
  bool updated;
};

class TrainStep {
 public:
  struct Block {
    void* data;
    size_t bytes;
  };

  // `dtype` is that of everything but ids; updates and what they point to are the caller's to keep up to date.
  TrainStep(const Backend& backend, DType dtype, std::vector<std::unique_ptr<Stage>> stages,
            std::vector<Block> gradients)
      : backend_(backend),
        dtype_(dtype),
        stages_(std::move(stages)),
        gradients_(std::move(gradients)),
        inputs_(stages_.size() + 1),
        workspace_(backend),
        partials_(backend) {
    for (size_t i = 0; i < stages_.size(); ++i) outputs_.push_back(std::make_unique<Buffer>(backend));
    for (auto& way : way_back_) way = std::make_unique<Buffer>(backend);
  }

  const Backend& backend() const { return backend_; }
  DType dtype() const { return dtype_; }
  const std::vector<std::unique_ptr<Stage>>& stages() const { return stages_; }
  std::vector<OptimizerArgs>& updates() { return updates_; }

  void add_update(const OptimizerArgs& update);

  // Whatever form was last fitted may be gone.
  void forget_form() { fitted_ = nullptr; }

  // Makes room for calls of this form with a team of `threads`. Memory grows to the largest form; a smaller one or one
  // met before allocates nothing. Throws std::bad_alloc.
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
  double forward(const Form& form, const Call& call, Team* team);
  void backward(const Call& call, Team* team);
  bool fits(const Form& form, int32_t threads) const;

  const Backend& backend_;
  const DType dtype_;
  std::vector<std::unique_ptr<Stage>> stages_;
  std::vector<Block> gradients_;
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
  std::vector<View> inputs_;  // of every stage, and of the loss
  std::vector<std::unique_ptr<Buffer>> outputs_;
  std::unique_ptr<Buffer> way_back_[2];  // gradients of inputs_, in turn
  Buffer workspace_, partials_;
  const Form* fitted_ = nullptr;
  int32_t threads_ = 0;
  double flops_ = 0;
  ForcedPlan forced_ = {};
};

}  // namespace fusedrnn::step
