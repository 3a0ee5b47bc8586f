// The layers of a model one after the other: forward, loss, backward, with all that lies between them kept from one
// call to the next.
#pragma once

#include <memory>
#include <vector>

#include "isa/plan_override.hpp"
#include "training/call_shape.hpp"
#include "training/layers.hpp"
#include "training/recurrent.hpp"

namespace fusedrnn::training {

// What a call reads.
struct Inputs {
  const void *x, *target, *mask;
  Sequence sequence;
};

class LayerChain {
 public:
  // `dtype` is that of everything but ids.
  LayerChain(const Backend& backend, DType dtype, std::vector<std::unique_ptr<Layer>> layers);

  const Backend& backend() const { return backend_; }
  DType dtype() const { return dtype_; }
  const std::vector<std::unique_ptr<Layer>>& layers() const { return layers_; }
  const std::vector<RecurrentLayer*>& recurrent() const { return recurrent_; }
  const EmbeddingLayer* embedding() const { return embedding_; }  // the first one, if it is one
  bool batch_first() const { return batch_first_; }               // of the layers that know of batches

  // Makes room for calls of this shape with so many threads. Memory grows to the largest shape; a smaller one, or one
  // seen before, allocates nothing. Throws std::bad_alloc.
  void fit(const CallShape& shape, int32_t threads);

  // Whether that was done for this very shape, and nothing it depends on has changed.
  bool fits(const CallShape& shape, int32_t threads) const;

  // The shape last fitted may be gone.
  void forget_shape() { fitted_ = nullptr; }

  // Multiply-adds of products in a forward of the shape last fitted, counted twice.
  double flops() const { return flops_; }

  // For a shape that fits, whose object is the same as long as nothing about it changes. The loss is one float64 of
  // backend memory; `fault` is as LossArgs'. Throw what `check` throws.
  void forward(const CallShape& shape, const Inputs& inputs, double* loss, const Fault* fault, Stream stream);
  void backward(const Inputs& inputs, Stream stream);

  // The first layer with anything to add, where backward ends; as many as there are layers where none has.
  size_t first_to_train() const;

 private:
  // The gradient of inputs_[i].
  void* gradient(size_t i) const {
    return in_place_ && i == layers_.size() ? outputs_.back()->data() : grad_buffers_[i % 2]->data();
  }

  const Backend& backend_;
  const DType dtype_;
  std::vector<std::unique_ptr<Layer>> layers_;
  std::vector<RecurrentLayer*> recurrent_;
  const EmbeddingLayer* embedding_ = nullptr;
  bool batch_first_ = false;
  std::vector<View> inputs_;  // of every layer, and of the loss
  std::vector<std::unique_ptr<Buffer>> outputs_;
  std::unique_ptr<Buffer> grad_buffers_[2];  // gradients of inputs_, in turn
  // Whether the loss writes its gradient over the last output, which no backward reads: of a word model these are the
  // two largest arrays there are.
  bool in_place_ = false;
  Buffer workspace_, partials_;
  const CallShape* fitted_ = nullptr;
  int32_t threads_ = 0;
  double flops_ = 0;
  PlanOverride override_ = {};
};

}  // namespace fusedrnn::training
