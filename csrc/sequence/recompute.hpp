// A sequence in pieces of k steps (Chen et al. 2016): the tape keeps the states between pieces alone, and backward
// computes a piece again before it goes back through it. Memory for T / k + k steps in place of T, for one forward
// more.
//
// No bit is another. A piece is whole chunks of the plan, so weight gradients add up the pairs that they would, in that
// order; rows keep the order of their whole lengths and masks the times of the whole sequence; what backward hands from
// step to step it hands from piece to piece, the cell's direct path by itself.
#pragma once

#include "sequence/backward.hpp"
#include "sequence/forward.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// Steps of a piece: as many as were asked for, or the root of T, in whole chunks.
inline int64_t piece_steps(const SequenceDesc& desc, const Plan& plan) {
  int64_t k = desc.recompute;
  if (k == kRecomputeAuto)
    for (k = 1; k * k < desc.T;) ++k;
  const int64_t rest = k % plan.chunk_steps;
  if (rest > 0) k += plan.chunk_steps - rest;
  return k < desc.T ? k : desc.T;
}

// The states in front of each piece but the first, h (L, B, P) and c (L, B, H) each, which is the tape.
template <class T>
class Between {
 public:
  Between(const SequenceDesc& desc, const void* tape)
      : B_(desc.B),
        H_(desc.H),
        P_(state_units(desc)),
        rows_(desc.layers * desc.B),
        each_(rows_ * (P_ + (states_of(desc) > 1 ? H_ : 0))),
        cells_(states_of(desc) > 1),
        tape_(static_cast<T*>(const_cast<void*>(tape))) {}

  size_t bytes(int64_t pieces) const { return static_cast<size_t>((pieces - 1) * each_) * sizeof(T); }
  Array3 h(int64_t piece) const { return dense(tape_ + (piece - 1) * each_, B_, P_); }
  Array3 c(int64_t piece) const { return cells_ ? dense(tape_ + (piece - 1) * each_ + rows_ * P_, B_, H_) : Array3{}; }

 private:
  const int64_t B_, H_, P_, rows_, each_;  // each_: elements in front of a piece
  const bool cells_;
  T* const tape_;
};

// Whether there are several.
template <class E>
bool in_pieces(const SequenceDesc& desc) {
  return desc.train && desc.recompute != 0 && piece_steps(desc, plan_of<E>(desc)) < desc.T;
}

template <class E>
class Pieces {
  using T = typename E::Storage;

 public:
  // Lays out the workspace of forward or backward; without one it only counts the bytes.
  Pieces(const SequenceDesc& desc, bool backward, void* workspace)
      : desc_(desc),
        cell_(facts(desc.cell)),
        steps_(piece_steps(desc, plan_of<E>(desc))),
        count_((desc.T + steps_ - 1) / steps_) {
    const auto larger = [](size_t a, size_t b) { return a > b ? a : b; };
    const auto room = [&](const SequenceDesc& piece) {
      size_t ahead = 0, back = 0;
      scratch<E>(piece, plan_of<E>(piece), false, nullptr, &ahead);
      if (backward) scratch<E>(piece, plan_of<E>(piece), true, nullptr, &back);
      return larger(ahead, back);
    };
    Arena arena(workspace);
    order_.batch = arena.take<int64_t>(desc.B);
    order_.length = arena.take<int64_t>(desc.B);
    order_.active = arena.take<int64_t>(desc.T + 1);
    order_.next = arena.take<int64_t>(desc.T + 1);
    lengths_ = arena.take<int64_t>(desc.B);
    size_t tape = 0;
    tape_layer<T>(piece(0), nullptr, desc.layers - 1, &tape);
    tape_ = arena.take<char>(static_cast<int64_t>(tape));
    scratch_ = arena.take<char>(static_cast<int64_t>(larger(room(piece(0)), room(piece(count_ - 1)))));
    if (backward) {
      const int64_t states = desc.layers * desc.B * desc.H, P = state_units(desc);
      y_ = arena.take<T>(steps_ * desc.B * P);
      final_h_ = arena.take<T>(desc.layers * desc.B * P);
      final_c_ = arena.take<T>(states);
      for (T*& dh : dh_) dh = arena.take<T>(desc.layers * desc.B * P);
      for (T*& direct : direct_) direct = arena.take<T>(cell_.carry_gradient ? states : 0);
      grads_ = arena.take<LayerGrads>(desc.layers);
      dropped_ = arena.take<T>(desc.weight_dropout > 0 ? desc.layers * recurrent() : 0);
      sums_ = arena.take<T>(2 * desc.layers * columns());
    }
    bytes_ = arena.used();
  }

  size_t tape_bytes() const { return Between<T>(desc_, nullptr).bytes(count_); }
  size_t bytes() const { return bytes_; }

  void forward(const ForwardKernels<E>& kernels, const ForwardArgs& args, Team* team) {
    const Between<T> between(desc_, args.tape);
    if (args.lengths) order_rows(args.lengths, nullptr, desc_.T, desc_.B, order_);
    for (int64_t i = 0; i < count_; ++i) {
      ForwardArgs a = args;
      cut(a, between, i);
      a.y = from_first(args.y, i);
      if (i + 1 < count_) {
        a.hn = between.h(i + 1);
        a.cn = between.c(i + 1);
      }
      run(kernels, a, i, team);
    }
  }

  void backward(const ForwardKernels<E>& ahead, const BackwardKernels<E>& back, const BackwardArgs& args, Team* team) {
    const Between<T> between(desc_, args.tape);
    if (args.lengths) order_rows(args.lengths, nullptr, desc_.T, desc_.B, order_);
    begin_sums(args);
    Array3 dhn = args.dhn, dcn = args.dcn;
    for (int64_t i = count_ - 1; i >= 0; --i) {
      run(ahead, again(args, between, i), i, team);
      BackwardArgs a = args;
      cut(a, between, i);
      a.tape = tape_;
      a.dy = from_first(args.dy, i);
      a.dx = from_first(args.dx, i);
      a.dhn = dhn;
      a.dcn = dcn;
      if (i > 0) {
        a.dh0 = dhn = dense(dh_[i % 2], desc_.B, state_units(desc_));
        if (cell_.carry_gradient) a.dc0 = dcn = dense(direct_[i % 2], desc_.B, desc_.H);
      }
      a.dweights = grads_;
      a.sums = sums_;
      if (desc_.flow) a.flow_h += i * steps_;
      if (desc_.flow && a.flow_c) a.flow_c += i * steps_;
      const SequenceDesc part = piece(i);
      const Plan plan = plan_of<E>(part);
      Backward<E>(back, part, a, plan, scratch_, team).run();
    }
    end_sums(args);
  }

 private:
  int64_t recurrent() const { return cell_.gates * desc_.H * state_units(desc_); }
  int64_t columns() const { return cell_.dgate_blocks * desc_.H; }

  SequenceDesc piece(int64_t i) const {
    SequenceDesc part = desc_;
    const int64_t left = desc_.T - i * steps_;
    part.T = left < steps_ ? left : steps_;
    part.first_step = desc_.first_step + i * steps_;
    part.recompute = 0;
    return part;
  }

  Array3 from_first(Array3 sequence, int64_t i) const {
    if (sequence.data) sequence.data = static_cast<T*>(sequence.data) + i * steps_ * sequence.stride0;
    return sequence;
  }

  // What is the same in both ways of piece i, of arguments that are those of the whole.
  template <class Args>
  void cut(Args& a, const Between<T>& between, int64_t i) const {
    const int64_t first = i * steps_, steps = piece(i).T;
    a.x = from_first(a.x, i);
    if (i > 0) {
      a.h0 = between.h(i);
      a.c0 = between.c(i);
    }
    if (a.lengths) {
      for (int64_t b = 0; b < desc_.B; ++b) {
        const int64_t left = a.lengths[b] - first;
        lengths_[b] = left < 0 ? 0 : left < steps ? left : steps;
      }
      a.lengths = lengths_;
      a.order = order_.batch;
    }
    if (a.resets) a.resets += first * a.resets_stride0;
  }

  // Forward of piece i once more, for its tape alone.
  ForwardArgs again(const BackwardArgs& args, const Between<T>& between, int64_t i) const {
    ForwardArgs a{};
    a.x = args.x;
    a.h0 = args.h0;
    a.c0 = args.c0;
    a.packed = args.packed;
    a.lengths = args.lengths;
    a.resets = args.resets;
    a.resets_stride0 = args.resets_stride0;
    a.resets_stride1 = args.resets_stride1;
    cut(a, between, i);
    a.y = dense(y_, desc_.B, state_units(desc_));
    a.hn = dense(final_h_, desc_.B, state_units(desc_));
    a.cn = dense(final_c_, desc_.B, desc_.H);
    return a;
  }

  void run(const ForwardKernels<E>& kernels, ForwardArgs a, int64_t i, Team* team) const {
    a.tape = tape_;
    const SequenceDesc part = piece(i);
    const Plan plan = plan_of<E>(part);
    Forward<E>(kernels, part, a, plan, scratch_, team).run();
  }

  // What goes on from piece to piece: sums of columns of dgates, and under weight dropout the gradient of what is left
  // of R, which is masked behind the last.
  void begin_sums(const BackwardArgs& args) const {
    for (int64_t k = 0; k < 2 * desc_.layers * columns(); ++k) sums_[k] = T(0);
    for (int l = 0; l < desc_.layers; ++l) {
      grads_[l] = args.dweights[l];
      void*& of_r = grads_[l].weight[kWeightHh];
      if (desc_.weight_dropout <= 0 || !of_r) continue;
      T* const sum = dropped_ + l * recurrent();
      for (int64_t k = 0; k < recurrent(); ++k) sum[k] = T(0);
      of_r = sum;
    }
  }
  void end_sums(const BackwardArgs& args) const {
    for (int l = 0; l < desc_.layers; ++l) {
      const LayerGrads& grads = args.dweights[l];
      add_sums<T>(cell_, desc_.H, grads, column_sums(sums_, l, columns()), 0, desc_.H);
      T* const grad = static_cast<T*>(grads.weight[kWeightHh]);
      if (desc_.weight_dropout > 0 && grad)
        add_dropped_gradient(desc_, l, dropped_ + l * recurrent(), grad, 0, cell_.gates * desc_.H);
    }
  }

  const SequenceDesc& desc_;
  const CellFacts& cell_;
  const int64_t steps_, count_;
  RowOrder order_;         // of the whole sequence
  int64_t* lengths_;       // (B,) of a piece
  char *tape_, *scratch_;  // of a piece
  // Of backward alone:
  // (k, B, P), (L, B, P) and (L, B, H) that forward writes for no reader
  T *y_ = nullptr, *final_h_ = nullptr, *final_c_ = nullptr;
  T *dh_[2] = {}, *direct_[2] = {};  // (L, B, P or H), pieces in turn: to h by the gates; to c, or to h past them
  LayerGrads* grads_ = nullptr;      // (L,)
  T* dropped_ = nullptr;             // (L, G * H, P)
  T* sums_ = nullptr;                // (L, 2, dgate_blocks * H)
  size_t bytes_;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
