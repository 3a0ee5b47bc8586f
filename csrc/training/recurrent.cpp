#include "training/recurrent.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include "backend/traits.hpp"
#include "isa/plan_override.hpp"

namespace fusedrnn::training {

Shape RecurrentLayer::output(const Shape& input) const {
  Shape shape = input;
  shape.size[2] = desc_.directions * state_units(desc_);
  return shape;
}

Array3 RecurrentLayer::time_first(Array3 sequence) const {
  if (batch_first_) std::swap(sequence.stride0, sequence.stride1);
  return sequence;
}

size_t RecurrentLayer::fit(const View& x, const Sequence& sequence, int32_t threads) {
  desc_.T = x.shape.size[batch_first_ ? 1 : 0];
  desc_.B = x.shape.size[batch_first_ ? 0 : 1];
  desc_.has_lengths = sequence.lengths != nullptr;
  desc_.has_resets = sequence.resets != nullptr;
  offer_threads(desc_, threads);
  SequenceSizes sizes;
  check(backend_, backend_.sequence->sizes(&desc_, &sizes), "train_step");
  packed_.reserve(sizes.packed);
  tape_.reserve(sizes.tape);
  states_.reserve(static_cast<size_t>(stacks() * desc_.B * (state_units(desc_) + desc_.H)) * sizeof(double));
  return std::max(sizes.forward, sizes.backward);
}

bool RecurrentLayer::trains() const {
  const auto wanted = [](void* grad) { return grad != nullptr; };
  return std::any_of(grads_.begin(), grads_.end(), [&](const LayerGrads& grads) {
    return std::any_of(std::begin(grads.weight), std::end(grads.weight), wanted);
  });
}

int64_t RecurrentLayer::preparation() const {
  const int64_t P = state_units(desc_);
  return traits(desc_.cell).gates * desc_.H * (desc_.I + P + (desc_.layers - 1) * (desc_.directions + 1) * P) *
         desc_.directions;
}

// The weights are packed at every step: an update has just changed them, or the caller since. So no packing
// of this step is ever older than the weights.
Status RecurrentLayer::prepare(Stream stream) {
  return backend_.sequence->pack(&desc_, weights_.data(), packed_.data(), stream);
}

Status RecurrentLayer::forward(const View& x, void* y, const Sequence& sequence, void* workspace, Stream stream) {
  const int64_t B = desc_.B, H = desc_.H, P = state_units(desc_);
  ForwardArgs a{};
  a.x = time_first(x.sequence);
  a.h0 = h0_;
  a.c0 = c0_;
  a.packed = packed_.data();
  a.lengths = sequence.lengths;
  a.resets = sequence.resets;
  a.resets_stride0 = B;
  a.resets_stride1 = 1;
  a.y = time_first(contiguous(output(x.shape), y).sequence);
  a.hn = Array3{hn_ ? hn_ : states_.data(), B * P, P};
  // Threads write both at once: each has its own memory, of elements of whatever size.
  char* const cells = static_cast<char*>(states_.data()) + stacks() * B * P * int64_t{sizeof(double)};
  if (traits(desc_.cell).has_cell_state) a.cn = Array3{cn_ ? cn_ : cells, B * H, H};
  a.tape = tape_.data();
  return backend_.sequence->forward(&desc_, &a, workspace, stream);
}

// Final states are taken to have no influence on the loss, and the gradient of the initial ones is not asked for.
Status RecurrentLayer::backward(const View& x, const View& dy, void* dx, const Sequence& sequence, void* workspace,
                                Stream stream) {
  BackwardArgs a{};
  a.x = time_first(x.sequence);
  a.h0 = h0_;
  a.c0 = c0_;
  a.packed = packed_.data();
  a.lengths = sequence.lengths;
  a.resets = sequence.resets;
  a.resets_stride0 = desc_.B;
  a.resets_stride1 = 1;
  a.tape = tape_.data();
  a.dy = time_first(dy.sequence);
  if (dx) a.dx = time_first(contiguous(x.shape, dx).sequence);
  a.dweights = grads_.data();
  a.flow_h = flow_h_;
  a.flow_c = flow_c_;
  a.flow_stride = desc_.T;
  return backend_.sequence->backward(&desc_, &a, workspace, stream);
}

}  // namespace fusedrnn::training
