// Back-propagation through time of a recurrent stack, last step first, both directions at once: per piece of the
// sequence a kernel per step, or one of clusters for all of them, for dgates R and the cell's backward, and dX as a
// product over its rows; per chunk dW, dR and db likewise. Clusters may have two layers side by side.
#include "recurrent/rows.hpp"
#include "recurrent/sequence.hpp"
#include "recurrent/sequence_graph.hpp"

namespace fusedrnn::cuda {
namespace {

class Backward {
 public:
  Backward(const Call& call, const BackwardArgs& args, void* workspace)
      : call_(call),
        desc_(call.desc),
        size_(call.size),
        args_(args),
        walk_{args.lengths, args.resets, args.resets_stride0, args.resets_stride1, desc_.T},
        scratch_(scratch(size_, true, workspace)) {}

  Status run() const {
    if (desc_.B == 0) return Status::ok;
    if (call_.plan.grid.backward_used) FR_TRY(clear_exchange(call_, call_.plan.grid.backward, scratch_));
    const int at_once = call_.plan.cluster.backward_used ? call_.plan.cluster.backward_layers : 1;
    for (int l = desc_.layers - 1; l >= 0; l -= at_once) FR_TRY(layers(l, at_once <= l ? at_once : l + 1));
    return Status::ok;
  }

 private:
  // A layer and direction, its lane in the scratch, and steps of it.
  struct Part {
    int layer, direction, lane;
    Piece piece;
  };

  int index(const Part& part) const { return part.layer * desc_.directions + part.direction; }
  TapeLayer tape(int index) const { return tape_layer(size_, args_.tape, index); }

  // Where the gradient of layer l's input goes.
  Array3 dx_of(int l) const {
    const int64_t width = desc_.directions * desc_.H;
    return l == 0 ? args_.dx : Array3{scratch_.dhidden[(l - 1) % 2], desc_.B * width, width};
  }

  // Layers (top - count, top], each a piece of the sequence behind the one above.
  Status layers(int top, int count) const {
    const int lanes = count * desc_.directions;
    const bool by_blocks = call_.plan.cluster.backward_used || call_.plan.grid.backward_used;
    BackwardStep step = step_of_stack();
    for (int lane = 0; lane < lanes; ++lane)
      begin({top - lane / desc_.directions, lane % desc_.directions, lane, {}}, step.direction[lane]);
    // Directions come to a row at different steps: both add.
    const Array3 dx = dx_of(top);
    if (dx.data && desc_.directions == 2) FR_TRY(clear(call_.e, dx, desc_.T, desc_.B, size_.inputs(top), call_.stream));
    for (int64_t wave = 0; wave < size_.pieces() + count - 1; ++wave) {
      Part parts[2];
      int32_t used = 0;
      for (int lane = 0; lane < lanes; ++lane) {
        const int below = lane / desc_.directions;
        if (wave < below || wave - below >= size_.pieces()) continue;
        const Piece piece = size_.piece(size_.pieces() - 1 - (wave - below));
        if (piece.first < piece.end) parts[used++] = {top - below, lane % desc_.directions, lane, piece};
      }
      if (used > 0) FR_TRY(by_blocks ? by_one(parts, used, step) : by_step(parts, used, step));
      for (int32_t i = 0; i < used; ++i) FR_TRY(gradients(parts[i]));
    }
    if (!args_.dh0.data) return Status::ok;
    step.s = -1;
    for (int lane = 0; lane < lanes; ++lane) step.direction[lane].next = dgates(lane, 0);
    for (int i = 0; i < count; ++i) {  // a layer at a time: a step's kernel takes the directions of one
      BackwardStep of_layer = step;
      of_layer.direction[0] = step.direction[i * desc_.directions];
      FR_TRY(call_.steps.backward(call_.e, call_.step_kernel(true), of_layer, call_.stream));
    }
    return Status::ok;
  }

  // What is the same for all layers.
  BackwardStep step_of_stack() const {
    BackwardStep step{};
    step.walk = walk_;
    step.B = desc_.B;
    step.H = desc_.H;
    step.Hp = size_.Hp;
    step.carry0_stride = call_.has_cell_state() ? args_.c0.stride1 : args_.h0.stride1;
    step.dhn_stride = args_.dhn.stride1;
    step.dcn_stride = args_.dcn.stride1;
    step.dh0_stride = args_.dh0.stride1;
    step.dc0_stride = args_.dc0.stride1;
    step.directions = desc_.directions;
    return step;
  }

  // Where a lane's arrays are.
  void begin(const Part& part, BackwardDirection& to) const {
    const int i = index(part);
    const Array3 dy = part.layer == desc_.layers - 1 ? args_.dy : dx_of(part.layer + 1);
    const TapeLayer kept = tape(i);
    const auto state = [&](const Array3& a) { return call_.c_at(a.data, i * a.stride0); };
    to.r_back = packed_layer(size_, args_.packed, i).r_back;
    to.carry0 = state(call_.has_cell_state() ? args_.c0 : args_.h0);
    to.carry = kept.carry;
    to.gates = kept.gates;
    to.dy = call_.columns_at(dy, part.direction * desc_.H);
    to.dhn = state(args_.dhn);
    to.dcn = state(args_.dcn);
    to.dcarry = scratch_.dcarry[part.lane];
    to.dh0 = state(args_.dh0);
    to.dc0 = state(args_.dc0);
  }

  // dgates of a lane's chunk from one of its steps on.
  void* dgates(int lane, int64_t step_in_chunk) const {
    return call_.e_at(scratch_.dgates[lane], step_in_chunk * desc_.B * size_.dgates_pitch());
  }

  // dgates of step s + 1. At the edge of a chunk: of the first step of the chunk after it, which is there until this
  // one's is written.
  void* next(const Part& part, int64_t s) const {
    return dgates(part.lane, s + 1 < part.piece.chunk_end ? s + 1 - part.piece.chunk : 0);
  }

  // dgates of all steps by one kernel.
  Status by_one(const Part* parts, int32_t used, const BackwardStep& step) const {
    ClusterBackward run{step, {}, call_.plan.cluster.backward};
    run.step.directions = used;
    for (int32_t i = 0; i < used; ++i) {
      const Part& part = parts[i];
      BackwardDirection& to = run.step.direction[i] = step.direction[part.lane];
      to.next = next(part, part.piece.end - 1);
      to.dgates = dgates(part.lane, part.piece.first - part.piece.chunk);
      run.lane[i] = {part.piece.first, part.piece.end, part.direction == 1};
    }
    if (call_.plan.cluster.backward_used) return call_.steps.cluster_backward(call_.e, run, call_.stream);
    const int64_t steps = (desc_.layers - 1 - parts[0].layer) * desc_.T + desc_.T - parts[0].piece.end;  // before these
    const GridExchange exchange{scratch_.exchange, 0, grid_epoch(steps)};
    const GridBackward all{run.step, {run.lane[0], run.lane[1]}, call_.plan.grid.backward, exchange};
    return grid_of(desc_.cell).backward(call_.e, all, call_.stream);
  }

  // A kernel for each step. Parts are the directions of a layer.
  Status by_step(const Part* parts, int32_t used, BackwardStep& step) const {
    for (int64_t s = parts[0].piece.end - 1; s >= parts[0].piece.first; --s) {
      step.s = s;
      for (int32_t i = 0; i < used; ++i) {
        step.direction[i].next = next(parts[i], s);
        step.direction[i].dgates = dgates(parts[i].lane, s - parts[i].piece.chunk);
      }
      FR_TRY(call_.steps.backward(call_.e, call_.step_kernel(s == parts[0].piece.end - 1), step, call_.stream));
    }
    return Status::ok;
  }

  // dX of a piece; dW, dR and db of its chunk once all of that is there.
  Status gradients(const Part& part) const {
    const Piece& piece = part.piece;
    FR_TRY(input(part));
    if (piece.first > piece.chunk) return Status::ok;
    const int l = part.layer, d = part.direction, lane = part.lane;
    const int64_t rows = (piece.chunk_end - piece.chunk) * desc_.B, pitch = size_.input_pitch(l);
    const LayerGrads& grads = args_.dweights[index(part)];
    const void* const x_part = call_.e_at(dgates(lane, 0), size_.cell.x_first * size_.Hp);
    const void* const h_part = call_.e_at(dgates(lane, 0), size_.cell.h_first * size_.Hp);
    if (void* const to = grads.weight[kWeightIh]) {
      const void* const below = l == 0 ? nullptr : tape((l - 1) * desc_.directions).hidden;
      FR_TRY(reorder_input(call_, walk_, args_.x, below, l, d, piece.chunk, piece.chunk_end, scratch_.xs));
      FR_TRY(weight(x_part, size_.cell.x_gate, scratch_.xs, pitch, size_.inputs(l), rows, to));
    }
    if (void* const to = grads.weight[kWeightHh]) {
      const void* const before = call_.e_at(tape(index(part)).before, piece.chunk * desc_.B * size_.Hp);
      FR_TRY(weight(h_part, size_.cell.h_gate, before, size_.Hp, desc_.H, rows, to));
    }
    if (void* const to = grads.weight[kBiasIh]) FR_TRY(bias(x_part, size_.cell.x_gate, rows, to));
    if (void* const to = grads.weight[kBiasHh]) FR_TRY(bias(h_part, size_.cell.h_gate, rows, to));
    return Status::ok;
  }

  // to (G * H, columns) += part^T operand.
  Status weight(const void* part, const int32_t* gate, const void* operand, int64_t operand_pitch, int64_t columns,
                int64_t rows, void* to) const {
    const int32_t splits = weight_splits(size_, columns);
    FR_TRY(multiply(call_.e, call_.plain,
                    {GemmKind::tn, part, operand, nullptr, scratch_.partials, size_.gate_pitch(), columns, rows,
                     size_.dgates_pitch(), operand_pitch, columns, splits, 0},
                    call_.stream));
    return add(columns, splits, gate, to);
  }

  // to (G * H) += sums of the columns of part.
  Status bias(const void* part, const int32_t* gate, int64_t rows, void* to) const {
    const int32_t splits = bias_splits(size_);
    FR_TRY(sum_columns(call_.e, {part, scratch_.partials, rows, size_.gate_pitch(), size_.dgates_pitch(), splits, 0},
                       call_.stream));
    return add(1, splits, gate, to);
  }

  Status add(int64_t columns, int32_t splits, const int32_t* gate, void* to) const {
    Partials partials{scratch_.partials, to, columns, columns, size_.Hp, desc_.H, splits, size_.cell.gates, {}, 1};
    for (int k = 0; k < size_.cell.gates; ++k) partials.row[k] = gate[k];
    return add_partials(call_.e, partials, call_.stream);
  }

  // dX = dgates W of a piece, through the dropout that the layer's input went through.
  Status input(const Part& part) const {
    const int l = part.layer;
    const Array3 dx = dx_of(l);
    if (!dx.data) return Status::ok;
    const Piece& piece = part.piece;
    const PackedLayer weights = packed_layer(size_, args_.packed, index(part));
    const int64_t width = size_.inputs(l), steps = piece.end - piece.first;
    const void* const x_part = call_.e_at(dgates(part.lane, piece.first - piece.chunk), size_.cell.x_first * size_.Hp);
    FR_TRY(multiply(call_.e, call_.plain,
                    {GemmKind::nt, x_part, weights.w_back, nullptr, scratch_.dxs, steps * desc_.B, width,
                     size_.gate_pitch(), size_.dgates_pitch(), size_.gate_pitch(), width, 1, 0},
                    call_.stream));
    const double p = l > 0 ? desc_.dropout : 0;
    return unstage(
        call_.e,
        {walk_, dx, scratch_.dxs, piece.first, steps, desc_.B, width, width, part.direction == 1, desc_.directions == 2,
         p > 0, Dropout(p, desc_.dropout_key, desc_.dropout_key_at, static_cast<uint32_t>(l))},
        call_.stream);
  }

  const Call& call_;
  const SequenceDesc& desc_;
  const StackSize& size_;
  const BackwardArgs& args_;
  const Walk walk_;
  const Scratch scratch_;
};

}  // namespace

Status sequence_backward(const SequenceDesc* desc, const BackwardArgs* args, void* workspace, Stream stream) {
  Element e{};
  FR_TRY(element_of(*desc, &e));
  PlanChoice plan;
  FR_TRY(choose_plan(*desc, e, &plan));
  const auto run = [&](Stream on) { return Backward(Call(*desc, e, plan, on), *args, workspace).run(); };
  if (!many_launches(*desc, plan)) return run(stream);
  static_assert(std::has_unique_object_representations_v<BackwardArgs>, "a key has their bytes");
  GraphKey key('b');
  add_desc(key, *desc);
  BackwardArgs same = *args;
  same.dweights = nullptr;  // host memory: what it points at counts
  key.add(same);
  for (int i = 0; i < desc->layers * desc->directions; ++i) key.add(args->dweights[i]);
  key.add(workspace);
  key.add(plan.overlaps);
  return by_graph(std::move(key), desc->T * desc->layers, stream, run);
}

}  // namespace fusedrnn::cuda
