// Forward of a recurrent stack, layer by layer, both directions at once: per chunk of steps one product x W + b_ih,
// then a kernel per step for h R and the cell. Everything between runs in the order of steps (walk.cuh), so that
// lengths, resets and reversal concern only where rows come from and go to.
#include "rows.hpp"
#include "sequence.hpp"
#include "sequence_graph.hpp"

namespace fusedrnn::cuda {
namespace {

class Forward {
 public:
  Forward(const Call& call, const ForwardArgs& args, void* workspace)
      : call_(call),
        desc_(call.desc),
        size_(call.size),
        args_(args),
        walk_{args.lengths, args.resets, args.resets_stride0, args.resets_stride1, desc_.T},
        scratch_(scratch(size_, false, workspace)) {}

  Status run() const {
    if (desc_.B == 0) return Status::ok;
    if (desc_.T > 0)
      for (int l = 0; l < desc_.layers; ++l) FR_TRY(layer(l));
    if (!args_.lengths && desc_.T > 0) return Status::ok;
    FR_TRY(copy_empty_rows(call_.e, {walk_, args_.h0, args_.hn, size_.stacks, desc_.B, desc_.H}, call_.stream));
    if (!call_.lstm()) return Status::ok;
    return copy_empty_rows(call_.e, {walk_, args_.c0, args_.cn, size_.stacks, desc_.B, desc_.H}, call_.stream);
  }

 private:
  // The outputs of a layer, for the one above: E (T, B, D * H), null for the last.
  void* hidden(int l) const {
    if (l == desc_.layers - 1) return nullptr;
    return desc_.train ? tape(l * desc_.directions).hidden : scratch_.hidden[l % 2];
  }

  TapeLayer tape(int index) const { return tape_layer(size_, args_.tape, index); }

  // What step s of a direction starts from.
  void* before(int index, int64_t s) const {
    const int64_t step = desc_.B * size_.Hp;
    return desc_.train ? call_.e_at(tape(index).before, s * step)
                       : call_.e_at(scratch_.before[index % desc_.directions], s % 2 * step);
  }

  Status layer(int l) const {
    const Array3 carry0 = call_.lstm() ? args_.c0 : args_.h0;
    ForwardStep step{};
    step.walk = walk_;
    step.B = desc_.B;
    step.H = desc_.H;
    step.Hp = size_.Hp;
    step.carry0_stride = carry0.stride1;
    step.carry_time = desc_.train ? desc_.B * desc_.H : 0;
    step.hidden_stride = desc_.directions * desc_.H;
    step.hn_stride = args_.hn.stride1;
    step.cn_stride = args_.cn.stride1;
    step.directions = desc_.directions;
    for (int d = 0; d < desc_.directions; ++d) {
      const int index = l * desc_.directions + d;
      const PackedLayer weights = packed_layer(size_, args_.packed, index);
      const TapeLayer kept = desc_.train ? tape(index) : TapeLayer{};
      ForwardDirection& to = step.direction[d];
      to.r = weights.r;
      to.bias_h = weights.bias_h;
      to.carry0 = call_.c_at(carry0.data, index * carry0.stride0);
      to.carry = desc_.train ? kept.carry : scratch_.carry[d];
      to.gates = kept.gates;
      to.hidden = call_.e_at(hidden(l), d * desc_.H);
      if (l == desc_.layers - 1) to.y = call_.columns_at(args_.y, d * desc_.H);
      to.hn = call_.c_at(args_.hn.data, index * args_.hn.stride0);
      to.cn = call_.c_at(args_.cn.data, index * args_.cn.stride0);
      FR_TRY(first_state(call_.e,
                         {walk_, call_.c_at(args_.h0.data, index * args_.h0.stride0), before(index, 0),
                          args_.h0.stride1, desc_.B, desc_.H, size_.Hp, d == 1},
                         call_.stream));
    }
    for (int64_t s = 0; s < desc_.T; s += size_.chunk_steps)
      FR_TRY(chunk(l, s, s + size_.chunk_steps < desc_.T ? s + size_.chunk_steps : desc_.T, step));
    return Status::ok;
  }

  Status chunk(int l, int64_t first, int64_t end, ForwardStep& step) const {
    for (int d = 0; d < desc_.directions; ++d) FR_TRY(input_part(l, d, first, end));
    if (call_.plan.cluster.forward_used) return cluster(l, first, end, step);
    for (int64_t s = first; s < end; ++s) {
      step.s = s;
      for (int d = 0; d < desc_.directions; ++d) {
        const int index = l * desc_.directions + d;
        ForwardDirection& to = step.direction[d];
        to.pre = call_.c_at(scratch_.pre[d], (s - first) * desc_.B * size_.gates());
        to.before = before(index, s);
        to.after = s + 1 < desc_.T ? before(index, s + 1) : nullptr;
      }
      FR_TRY(call_.steps.forward(call_.e, call_.step_kernel(s == first), step, call_.stream));
    }
    return Status::ok;
  }

  // All steps by one kernel.
  Status cluster(int l, int64_t first, int64_t end, ForwardStep& step) const {
    for (int d = 0; d < desc_.directions; ++d) {
      const int index = l * desc_.directions + d;
      const int64_t next = desc_.train ? first + 1 : end;
      ForwardDirection& to = step.direction[d];
      to.pre = scratch_.pre[d];
      to.before = before(index, first);
      to.after = next < desc_.T ? before(index, next) : nullptr;
    }
    return call_.steps.cluster_forward(
        call_.e, {step, first, end, desc_.train ? desc_.B * size_.Hp : 0, call_.plan.cluster.forward}, call_.stream);
  }

  // pre = x W + b_ih for the rows of steps [first, end) of a direction.
  Status input_part(int l, int d, int64_t first, int64_t end) const {
    const PackedLayer weights = packed_layer(size_, args_.packed, l * desc_.directions + d);
    FR_TRY(stage_input(call_, walk_, args_.x, l == 0 ? nullptr : hidden(l - 1), l, d, first, end, scratch_.xs[d]));
    const int64_t pitch = size_.input_pitch(l);
    return multiply(call_.e, call_.plain,
                    {GemmKind::nt, scratch_.xs[d], weights.w, weights.bias_x, scratch_.pre[d], (end - first) * desc_.B,
                     size_.gates(), size_.inputs(l), pitch, pitch, size_.gates(), 1, 0},
                    call_.stream);
  }

  const Call& call_;
  const SequenceDesc& desc_;
  const StackSize& size_;
  const ForwardArgs& args_;
  const Walk walk_;
  const Scratch scratch_;
};

}  // namespace

Status stage_input(const Call& call, const Walk& walk, const Array3& x, const void* below, int l, int d, int64_t first,
                   int64_t end, void* xs) {
  const SequenceDesc& desc = call.desc;
  const int64_t width = call.size.inputs(l);
  const double p = l > 0 && desc.train ? desc.dropout : 0;
  const Array3 from = l == 0 ? x : Array3{const_cast<void*>(below), desc.B * width, width};
  return stage(call.e, l > 0,
               {walk, from, xs, first, end - first, desc.B, width, call.size.input_pitch(l), d == 1, 0, p > 0,
                Dropout(p, desc.dropout_key, static_cast<uint32_t>(l))},
               call.stream);
}

Status sequence_forward(const SequenceDesc* desc, const ForwardArgs* args, void* workspace, Stream stream) {
  Element e{};
  FR_TRY(element_of(*desc, &e));
  PlanChoice plan;
  FR_TRY(choose_plan(*desc, e, &plan));
  const auto run = [&](Stream on) { return Forward(Call(*desc, e, plan, on), *args, workspace).run(); };
  if (!many_launches(*desc, plan)) return run(stream);
  static_assert(std::has_unique_object_representations_v<ForwardArgs>, "a key has their bytes");
  GraphKey key('f');
  add_desc(key, *desc);
  key.add(*args);
  key.add(workspace);
  return by_graph(std::move(key), desc->T * desc->layers, stream, run);
}

}  // namespace fusedrnn::cuda
