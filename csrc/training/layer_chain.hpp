// The stages of a model one after the other: forward, loss, backward, with all that lies between them kept from one
// call to the next.
#pragma once

#include <memory>
#include <vector>

#include "isa/plan_override.hpp"
#include "training/layers.hpp"
#include "training/recurrent.hpp"

namespace fusedrnn::training {

// One shape of call: its input, and its loss but for what is different at every call. Pointers are not looked at.
struct Form {
  View x;
  LossArgs loss = {};
  bool lengths = false, resets = false;
};

// What a call reads.
struct Inputs {
  const void *x, *target, *mask;
  Sequence sequence;
};

class Chain {
 public:
  // `dtype` is that of everything but ids.
  Chain(const Backend& backend, DType dtype, std::vector<std::unique_ptr<Stage>> stages);

  const Backend& backend() const { return backend_; }
  DType dtype() const { return dtype_; }
  const std::vector<std::unique_ptr<Stage>>& stages() const { return stages_; }
  const std::vector<RecurrentStage*>& recurrent() const { return recurrent_; }
  const EmbeddingStage* embedding() const { return embedding_; }  // the first one, if it is one
  bool batch_first() const { return batch_first_; }               // of the stages that know of batches

  // Makes room for calls of this form with so many threads. Memory grows to the largest form; a smaller one or one met
  // before allocates nothing. Throws std::bad_alloc.
  void fit(const Form& form, int32_t threads);

  // Whether that was done for this very form, and nothing it depends on has changed.
  bool fits(const Form& form, int32_t threads) const;

  // Whatever form was last fitted may be gone.
  void forget_form() { fitted_ = nullptr; }

  // Multiply-adds of products in a forward of the form last fitted, counted twice.
  double flops() const { return flops_; }

  // Of a form that fits, whose object is the same as long as nothing about it changes. The loss is one float64 of
  // backend memory; `fault` is as LossArgs'. Throw what `check` throws.
  void forward(const Form& form, const Inputs& inputs, double* loss, const Fault* fault, Stream stream);
  void backward(const Inputs& inputs, Stream stream);

 private:
  const Backend& backend_;
  const DType dtype_;
  std::vector<std::unique_ptr<Stage>> stages_;
  std::vector<RecurrentStage*> recurrent_;
  const EmbeddingStage* embedding_ = nullptr;
  bool batch_first_ = false;
  std::vector<View> inputs_;  // of every stage, and of the loss
  std::vector<std::unique_ptr<Buffer>> outputs_;
  std::unique_ptr<Buffer> grad_buffers_[2];  // gradients of inputs_, in turn
  Buffer workspace_, partials_;
  const Form* fitted_ = nullptr;
  int32_t threads_ = 0;
  double flops_ = 0;
  PlanOverride override_ = {};
};

}  // namespace fusedrnn::training
