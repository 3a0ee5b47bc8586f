// Forward of a recurrent stack, layer by layer, both directions at once: per piece of the sequence one product
// x W + b_ih, then a kernel per step, or one of clusters for all of them, for h R and the cell. Clusters may have two
// layers side by side. Everything between runs in the order of steps (walk.cuh), so that lengths, resets and reversal
// concern only where rows come from and go to.
#include "recurrent/rows.hpp"
#include "recurrent/sequence.hpp"
#include "recurrent/sequence_graph.hpp"

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
    if (call_.plan.grid.forward_used) FR_TRY(clear_exchange(call_, call_.plan.grid.forward, scratch_));
    const int at_once = call_.plan.cluster.forward_used ? call_.plan.cluster.forward_layers : 1;
    if (desc_.T > 0)
      for (int l = 0; l < desc_.layers; l += at_once)
        FR_TRY(layers(l, l + at_once < desc_.layers ? at_once : desc_.layers - l));
    if (!args_.lengths && desc_.T > 0) return Status::ok;
    FR_TRY(copy_empty_rows(call_.e, {walk_, args_.h0, args_.hn, size_.stacks, desc_.B, desc_.H}, call_.stream));
    if (!call_.has_cell_state()) return Status::ok;
    return copy_empty_rows(call_.e, {walk_, args_.c0, args_.cn, size_.stacks, desc_.B, desc_.H}, call_.stream);
  }

 private:
  // A layer and direction, its lane in the scratch, and steps of it.
  struct Part {
    int layer, direction, lane;
    int64_t first, end;
  };

  int index(const Part& part) const { return part.layer * desc_.directions + part.direction; }

  // The outputs of a layer, for the one above: E (T, B, D * H), null for the last.
  void* hidden(int l) const {
    if (l == desc_.layers - 1) return nullptr;
    return desc_.train ? tape(l * desc_.directions).hidden : scratch_.hidden[l % 2];
  }

  TapeLayer tape(int index) const { return tape_layer(size_, args_.tape, index); }

  // What step s starts from.
  void* before(const Part& part, int64_t s) const {
    const int64_t step = desc_.B * size_.Hp;
    return desc_.train ? call_.e_at(tape(index(part)).before, s * step)
                       : call_.e_at(scratch_.before[part.lane], s % 2 * step);
  }

  // Layers [bottom, bottom + count), each a piece of the sequence behind the one below.
  Status layers(int bottom, int count) const {
    const int lanes = count * desc_.directions;
    const bool by_blocks = call_.plan.cluster.forward_used || call_.plan.grid.forward_used;
    ForwardStep step = step_of_stack();
    for (int lane = 0; lane < lanes; ++lane)
      FR_TRY(begin({bottom + lane / desc_.directions, lane % desc_.directions, lane, 0, 0}, step.direction[lane]));
    for (int64_t wave = 0; wave < size_.pieces() + count - 1; ++wave) {
      Part parts[2];
      int32_t used = 0;
      for (int lane = 0; lane < lanes; ++lane) {
        const int above = lane / desc_.directions;
        if (wave < above || wave - above >= size_.pieces()) continue;
        const Piece piece = size_.piece(wave - above);
        if (piece.first < piece.end)
          parts[used++] = {bottom + above, lane % desc_.directions, lane, piece.first, piece.end};
      }
      for (int32_t i = 0; i < used; ++i) FR_TRY(input_part(parts[i]));
      if (used > 0) FR_TRY(by_blocks ? by_one(parts, used, step) : by_step(parts, used, step));
    }
    return Status::ok;
  }

  // What is the same for all layers.
  ForwardStep step_of_stack() const {
    ForwardStep step{};
    step.walk = walk_;
    step.B = desc_.B;
    step.H = desc_.H;
    step.Hp = size_.Hp;
    step.carry0_stride = call_.has_cell_state() ? args_.c0.stride1 : args_.h0.stride1;
    step.carry_time = desc_.train ? desc_.B * desc_.H : 0;
    step.hidden_stride = desc_.directions * desc_.H;
    step.hn_stride = args_.hn.stride1;
    step.cn_stride = args_.cn.stride1;
    step.directions = desc_.directions;
    return step;
  }

  // Where a lane's arrays are, and the state it starts from.
  Status begin(const Part& part, ForwardDirection& to) const {
    const int i = index(part);
    const Array3 carry0 = call_.has_cell_state() ? args_.c0 : args_.h0;
    const PackedLayer weights = packed_layer(size_, args_.packed, i);
    const TapeLayer kept = desc_.train ? tape(i) : TapeLayer{};
    to.r = weights.r;
    to.bias_h = weights.bias_h;
    to.carry0 = call_.c_at(carry0.data, i * carry0.stride0);
    to.carry = desc_.train ? kept.carry : scratch_.carry[part.lane];
    to.gates = kept.gates;
    to.hidden = call_.e_at(hidden(part.layer), part.direction * desc_.H);
    if (part.layer == desc_.layers - 1) to.y = call_.columns_at(args_.y, part.direction * desc_.H);
    to.hn = call_.c_at(args_.hn.data, i * args_.hn.stride0);
    to.cn = call_.c_at(args_.cn.data, i * args_.cn.stride0);
    return first_state(call_.e,
                       {walk_, call_.c_at(args_.h0.data, i * args_.h0.stride0), before(part, 0), args_.h0.stride1,
                        desc_.B, desc_.H, size_.Hp, part.direction == 1},
                       call_.stream);
  }

  // A kernel for each step. Parts are the directions of a layer.
  Status by_step(const Part* parts, int32_t used, ForwardStep& step) const {
    for (int64_t s = parts[0].first; s < parts[0].end; ++s) {
      step.s = s;
      for (int32_t i = 0; i < used; ++i) {
        const Part& part = parts[i];
        ForwardDirection& to = step.direction[i];
        to.pre = call_.c_at(scratch_.pre[part.lane], (s - part.first) * desc_.B * size_.gates());
        to.before = before(part, s);
        to.after = s + 1 < desc_.T ? before(part, s + 1) : nullptr;
      }
      FR_TRY(call_.steps.forward(call_.e, call_.step_kernel(s == parts[0].first), step, call_.stream));
    }
    return Status::ok;
  }

  // All steps by one kernel.
  Status by_one(const Part* parts, int32_t used, const ForwardStep& step) const {
    ClusterForward run{step, {}, desc_.train ? desc_.B * size_.Hp : 0, call_.plan.cluster.forward};
    run.step.directions = used;
    for (int32_t i = 0; i < used; ++i) {
      const Part& part = parts[i];
      const int64_t next = desc_.train ? part.first + 1 : part.end;
      ForwardDirection& to = run.step.direction[i] = step.direction[part.lane];
      to.pre = scratch_.pre[part.lane];
      to.before = before(part, part.first);
      to.after = next < desc_.T ? before(part, next) : nullptr;
      run.lane[i] = {part.first, part.end, part.direction == 1};
    }
    if (call_.plan.cluster.forward_used) return call_.steps.cluster_forward(call_.e, run, call_.stream);
    const GridExchange exchange{scratch_.exchange, 0, grid_epoch(parts[0].layer * desc_.T + parts[0].first)};
    const GridForward all{run.step, {run.lane[0], run.lane[1]}, run.before_time, call_.plan.grid.forward, exchange};
    return grid_of(desc_.cell).forward(call_.e, all, call_.stream);
  }

  // pre = x W + b_ih for a part's rows.
  Status input_part(const Part& part) const {
    const int l = part.layer;
    const PackedLayer weights = packed_layer(size_, args_.packed, index(part));
    FR_TRY(reorder_input(call_, walk_, args_.x, l == 0 ? nullptr : hidden(l - 1), l, part.direction, part.first,
                         part.end, scratch_.xs));
    const int64_t pitch = size_.input_pitch(l);
    return multiply(
        call_.e, call_.plain,
        {GemmKind::nt, scratch_.xs, weights.w, weights.bias_x, scratch_.pre[part.lane],
         (part.end - part.first) * desc_.B, size_.gates(), size_.inputs(l), pitch, pitch, size_.gates(), 1, 0},
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

Status reorder_input(const Call& call, const Walk& walk, const Array3& x, const void* below, int l, int d,
                     int64_t first, int64_t end, void* xs) {
  const SequenceDesc& desc = call.desc;
  const int64_t width = call.size.inputs(l);
  const double p = l > 0 && desc.train ? desc.dropout : 0;
  const Array3 from = l == 0 ? x : Array3{const_cast<void*>(below), desc.B * width, width};
  return stage(call.e, l > 0,
               {walk, from, xs, first, end - first, desc.B, width, call.size.input_pitch(l), d == 1, 0, p > 0,
                Dropout(p, desc.dropout_key, desc.dropout_key_at, static_cast<uint32_t>(l))},
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
  key.add(plan.overlaps);
  return by_graph(std::move(key), desc->T * desc->layers, stream, run);
}

}  // namespace fusedrnn::cuda
