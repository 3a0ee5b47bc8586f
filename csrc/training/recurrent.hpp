// A stack of RNN, GRU or LSTM layers in a training step.
#pragma once

#include <vector>

#include "runtime/wake_policy.hpp"
#include "training/layer.hpp"

namespace fusedrnn::training {

class RecurrentLayer : public Layer {
 public:
  // Of `desc` what a stack's structure says: cell, dtype, layers, directions, has_bias, I, H, P, dropout.
  RecurrentLayer(const Backend& backend, const SequenceDesc& desc, bool batch_first, std::vector<LayerWeights> weights,
                 std::vector<LayerGrads> grads)
      : backend_(backend),
        desc_(desc),
        batch_first_(batch_first),
        weights_(std::move(weights)),
        grads_(std::move(grads)),
        packed_(backend),
        tape_(backend),
        states_(backend) {
    desc_.train = 1;
  }

  const SequenceDesc& desc() const { return desc_; }
  bool batch_first() const { return batch_first_; }
  int64_t stacks() const { return int64_t{desc_.layers} * desc_.directions; }

  // (L * D, B, units) of this call; absent: zeros, or a final state that is not wanted. Cell states of an LSTM only.
  void set_states(Array3 h0, Array3 c0, void* hn, void* cn) {
    h0_ = h0;
    c0_ = c0;
    hn_ = hn;
    cn_ = cn;
  }

  // Where the next backward leaves the norms of its gradient flow, (L, D, T) each; absent: it measures none. Whether
  // that changes the workspace, so that `fit` has to be called again.
  bool set_flow(double* h, double* c) {
    flow_h_ = h;
    flow_c_ = c;
    const bool changed = (desc_.flow != 0) != (h != nullptr);
    desc_.flow = h != nullptr;
    return changed;
  }

  bool has_key() const override {
    return desc_.dropout > 0 || desc_.recurrent_dropout > 0 || desc_.zoneout_c > 0 || desc_.zoneout_h > 0 ||
           desc_.weight_dropout > 0;
  }
  void set_key(uint64_t key) override { desc_.dropout_key = desc_.weight_key = key; }
  void set_key_at(const uint64_t* at) override { desc_.dropout_key_at = at; }
  Shape output(const Shape& input) const override;
  double flops() const override { return recurrent_flops(desc_); }
  int64_t preparation() const override;
  Status prepare(Stream stream) override;
  size_t fit(const View& x, const Sequence& sequence, int32_t threads) override;
  bool trains() const override;
  Status forward(const View& x, void* y, const Sequence& sequence, void* workspace, Stream stream) override;
  Status backward(const View& x, const View& dy, void* dx, const Sequence& sequence, void* workspace,
                  Stream stream) override;

 private:
  Array3 time_first(Array3 sequence) const;

  const Backend& backend_;
  SequenceDesc desc_;
  const bool batch_first_;
  const std::vector<LayerWeights> weights_;
  const std::vector<LayerGrads> grads_;
  Buffer packed_, tape_, states_;  // states_: final ones that are not wanted
  Array3 h0_ = {}, c0_ = {};
  void *hn_ = nullptr, *cn_ = nullptr;
  double *flow_h_ = nullptr, *flow_c_ = nullptr;
};

}  // namespace fusedrnn::training
