#include "training/layer_chain.hpp"

#include <algorithm>

#include "training/loss.hpp"

namespace fusedrnn::training {
namespace {

bool same(const PlanOverride& a, const PlanOverride& b) {
  return a.direction_groups == b.direction_groups && a.row_groups == b.row_groups && a.unit_groups == b.unit_groups &&
         a.kind == b.kind;
}

// What stages have to know of lengths and resets to make room: whether there are any.
Sequence promised(const Form& form) {
  static const int64_t some_length = 0;
  static const uint8_t some_reset = 0;
  return {form.lengths ? &some_length : nullptr, form.resets ? &some_reset : nullptr};
}

}  // namespace

Chain::Chain(const Backend& backend, DType dtype, std::vector<std::unique_ptr<Stage>> stages)
    : backend_(backend),
      dtype_(dtype),
      stages_(std::move(stages)),
      inputs_(stages_.size() + 1),
      workspace_(backend),
      partials_(backend) {
  for (size_t i = 0; i < stages_.size(); ++i) outputs_.push_back(std::make_unique<Buffer>(backend));
  for (auto& way : grad_buffers_) way = std::make_unique<Buffer>(backend);
  embedding_ = dynamic_cast<const EmbeddingStage*>(stages_.front().get());
  for (const auto& stage : stages_) {
    if (auto* recurrent = dynamic_cast<RecurrentStage*>(stage.get())) {
      recurrent_.push_back(recurrent);
      batch_first_ = batch_first_ || recurrent->batch_first();
    } else if (const auto* last = dynamic_cast<const LastStage*>(stage.get())) {
      batch_first_ = batch_first_ || last->batch_first();
    }
  }
}

bool Chain::fits(const Form& form, int32_t threads) const {
  return fitted_ == &form && threads_ == threads && same(override_, plan_override());
}

void Chain::fit(const Form& form, int32_t threads) {
  fitted_ = nullptr;
  const size_t element = dtype_ == DType::float32 ? 4 : 8;
  const Sequence sequence = promised(form);
  size_t workspace = 0, widest = 0;
  flops_ = 0;
  inputs_[0] = form.x;
  for (size_t i = 0; i < stages_.size(); ++i) {
    const Shape shape = stages_[i]->output(inputs_[i].shape);
    const size_t bytes = static_cast<size_t>(shape.count()) * element;
    outputs_[i]->reserve(bytes);
    inputs_[i + 1] = contiguous(shape, outputs_[i]->data());
    workspace = std::max(workspace, stages_[i]->fit(inputs_[i], sequence, threads));
    widest = std::max(widest, bytes);
    flops_ += stages_[i]->flops();
  }
  for (auto& way : grad_buffers_) way->reserve(widest);
  workspace_.reserve(workspace);
  partials_.reserve(static_cast<size_t>(loss_chunks(form.loss)) * sizeof(double));
  fitted_ = &form;
  threads_ = threads;
  override_ = plan_override();
}

void Chain::forward(const Form& form, const Inputs& inputs, double* loss, const Fault* fault, Stream stream) {
  inputs_[0].point_to(inputs.x);
  for (size_t i = 0; i < stages_.size(); ++i)
    check(backend_, stages_[i]->forward(inputs_[i], outputs_[i]->data(), inputs.sequence, workspace_.data(), stream),
          "train_step");
  LossArgs a = form.loss;
  a.pred.data = outputs_.back()->data();
  a.target.data = inputs.target;
  a.mask.data = inputs.mask;
  a.loss = loss;
  a.fault = fault;
  a.dpred = grad_buffers_[stages_.size() % 2]->data();
  a.partials = static_cast<double*>(partials_.data());
  check(backend_, backend_.losses->loss(&a, stream), "train_step");
}

void Chain::backward(const Inputs& inputs, Stream stream) {
  for (size_t i = stages_.size(); i-- > 0;) {
    const View dy = contiguous(inputs_[i + 1].shape, grad_buffers_[(i + 1) % 2]->data());
    void* dx = i > 0 ? grad_buffers_[i % 2]->data() : nullptr;
    check(backend_, stages_[i]->backward(inputs_[i], dy, dx, inputs.sequence, workspace_.data(), stream), "train_step");
  }
}

}  // namespace fusedrnn::training
