#include "training/layer_chain.hpp"

#include <algorithm>

#include "backend/scratch.hpp"

namespace fusedrnn::training {
namespace {

bool same(const PlanOverride& a, const PlanOverride& b) {
  return a.direction_groups == b.direction_groups && a.row_groups == b.row_groups && a.unit_groups == b.unit_groups &&
         a.kind == b.kind;
}

// What layers have to know of lengths and resets to make room: whether there are any.
Sequence promised(const CallShape& shape) {
  static const int64_t some_length = 0;
  static const uint8_t some_reset = 0;
  return {shape.lengths ? &some_length : nullptr, shape.resets ? &some_reset : nullptr};
}

}  // namespace

LayerChain::LayerChain(const Backend& backend, DType dtype, std::vector<std::unique_ptr<Layer>> layers)
    : backend_(backend),
      dtype_(dtype),
      layers_(std::move(layers)),
      inputs_(layers_.size() + 1),
      workspace_(backend),
      partials_(backend) {
  for (size_t i = 0; i < layers_.size(); ++i) outputs_.push_back(std::make_unique<Buffer>(backend));
  for (auto& way : grad_buffers_) way = std::make_unique<Buffer>(backend);
  embedding_ = dynamic_cast<const EmbeddingLayer*>(layers_.front().get());
  for (const auto& layer : layers_) {
    if (auto* recurrent = dynamic_cast<RecurrentLayer*>(layer.get())) {
      recurrent_.push_back(recurrent);
      batch_first_ = batch_first_ || recurrent->batch_first();
    } else if (const auto* last = dynamic_cast<const LastLayer*>(layer.get())) {
      batch_first_ = batch_first_ || last->batch_first();
    }
  }
}

bool LayerChain::fits(const CallShape& shape, int32_t threads) const {
  return fitted_ == &shape && threads_ == threads && same(override_, plan_override());
}

void LayerChain::fit(const CallShape& shape, int32_t threads) {
  fitted_ = nullptr;
  const auto element = static_cast<size_t>(bytes_of(dtype_));
  const Sequence sequence = promised(shape);
  size_t workspace = 0, widest = 0;
  flops_ = 0;
  inputs_[0] = shape.x;
  in_place_ = backend_.memory == kHostMemory && replaces_pred(shape.loss.spec);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Shape output = layers_[i]->output(inputs_[i].shape);
    const size_t bytes = static_cast<size_t>(output.count()) * element;
    outputs_[i]->reserve(bytes);
    inputs_[i + 1] = contiguous(output, outputs_[i]->data());
    workspace = std::max(workspace, layers_[i]->fit(inputs_[i], sequence, threads));
    if (!in_place_ || i + 1 < layers_.size()) widest = std::max(widest, bytes);
    flops_ += layers_[i]->flops();
  }
  for (auto& way : grad_buffers_) way->reserve(widest);
  workspace_.reserve(workspace);
  partials_.reserve(loss_partials(shape.loss) * sizeof(double));
  fitted_ = &shape;
  threads_ = threads;
  override_ = plan_override();
}

void LayerChain::forward(const CallShape& shape, const Inputs& inputs, double* loss, const Fault* fault,
                         Stream stream) {
  inputs_[0].point_to(inputs.x);
  for (size_t i = 0; i < layers_.size(); ++i)
    check(backend_, layers_[i]->forward(inputs_[i], outputs_[i]->data(), inputs.sequence, workspace_.data(), stream),
          "train_step");
  LossArgs a = shape.loss;
  a.pred.data = outputs_.back()->data();
  a.target.data = inputs.target;
  a.mask.data = inputs.mask;
  a.loss = loss;
  a.fault = fault;
  a.dpred = gradient(layers_.size());
  a.partials = static_cast<double*>(partials_.data());
  check(backend_, backend_.losses->loss(&a, stream), "train_step");
}

size_t LayerChain::first_to_train() const {
  size_t first = 0;
  while (first < layers_.size() && !layers_[first]->trains()) ++first;
  return first;
}

void LayerChain::backward(const Inputs& inputs, Stream stream) {
  const size_t first = first_to_train();
  for (size_t i = layers_.size(); i-- > first;) {
    const View dy = contiguous(inputs_[i + 1].shape, gradient(i + 1));
    void* dx = i > first ? gradient(i) : nullptr;
    check(backend_, layers_[i]->backward(inputs_[i], dy, dx, inputs.sequence, workspace_.data(), stream), "train_step");
  }
}

}  // namespace fusedrnn::training
