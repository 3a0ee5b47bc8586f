// Back-propagation through time of a recurrent stack, last step first, both directions at once: a kernel per step for
// dgates R and the cell's backward, then per chunk of steps dW, dR, db and dX as products over all its rows.
#include "rows.hpp"
#include "sequence.hpp"
#include "sequence_graph.hpp"

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
    for (int l = desc_.layers - 1; l >= 0; --l) FR_TRY(layer(l));
    return Status::ok;
  }

 private:
  TapeLayer tape(int index) const { return tape_layer(size_, args_.tape, index); }

  // Where the gradient of layer l's input goes.
  Array3 dx_of(int l) const {
    const int64_t width = desc_.directions * desc_.H;
    return l == 0 ? args_.dx : Array3{scratch_.dhidden[(l - 1) % 2], desc_.B * width, width};
  }

  Status layer(int l) const {
    const Array3 carry0 = call_.lstm() ? args_.c0 : args_.h0;
    const Array3 dy = l == desc_.layers - 1 ? args_.dy : dx_of(l + 1);
    BackwardStep step{};
    step.walk = walk_;
    step.B = desc_.B;
    step.H = desc_.H;
    step.Hp = size_.Hp;
    step.carry0_stride = carry0.stride1;
    step.dhn_stride = args_.dhn.stride1;
    step.dcn_stride = args_.dcn.stride1;
    step.dh0_stride = args_.dh0.stride1;
    step.dc0_stride = args_.dc0.stride1;
    step.directions = desc_.directions;
    for (int d = 0; d < desc_.directions; ++d) {
      const int index = l * desc_.directions + d;
      const TapeLayer kept = tape(index);
      const auto state = [&](const Array3& a) { return call_.c_at(a.data, index * a.stride0); };
      BackwardDirection& to = step.direction[d];
      to.r_back = packed_layer(size_, args_.packed, index).r_back;
      to.carry0 = state(carry0);
      to.carry = kept.carry;
      to.gates = kept.gates;
      to.dy = call_.columns_at(dy, d * desc_.H);
      to.dhn = state(args_.dhn);
      to.dcn = state(args_.dcn);
      to.dcarry = scratch_.dcarry[d];
      to.dh0 = state(args_.dh0);
      to.dc0 = state(args_.dc0);
    }
    // Directions come to a row at different steps: both add.
    const Array3 dx = dx_of(l);
    if (dx.data && desc_.directions == 2) FR_TRY(clear(call_.e, dx, desc_.T, desc_.B, size_.inputs(l), call_.stream));
    const int64_t chunk_steps = size_.chunk_steps, chunks = (desc_.T + chunk_steps - 1) / chunk_steps;
    for (int64_t c = chunks - 1; c >= 0; --c)
      FR_TRY(chunk(l, c * chunk_steps, c == chunks - 1 ? desc_.T : (c + 1) * chunk_steps, step));
    if (!args_.dh0.data) return Status::ok;
    step.s = -1;
    for (int d = 0; d < desc_.directions; ++d) step.direction[d].next = dgates(d, 0);
    return call_.steps.backward(call_.e, call_.step_kernel(true), step, call_.stream);
  }

  void* dgates(int d, int64_t step_in_chunk) const {
    return call_.e_at(scratch_.dgates[d], step_in_chunk * desc_.B * size_.dgates_pitch());
  }

  Status chunk(int l, int64_t first, int64_t end, BackwardStep& step) const {
    FR_TRY(call_.plan.cluster.backward_used ? by_cluster(first, end, step) : by_step(first, end, step));
    for (int d = 0; d < desc_.directions; ++d) FR_TRY(gradients(l, d, first, end));
    return Status::ok;
  }

  // dgates of all steps by one kernel.
  Status by_cluster(int64_t first, int64_t end, BackwardStep& step) const {
    for (int d = 0; d < desc_.directions; ++d) step.direction[d].next = step.direction[d].dgates = dgates(d, 0);
    return call_.steps.cluster_backward(call_.e, {step, first, end, call_.plan.cluster.backward}, call_.stream);
  }

  Status by_step(int64_t first, int64_t end, BackwardStep& step) const {
    for (int64_t s = end - 1; s >= first; --s) {
      step.s = s;
      for (int d = 0; d < desc_.directions; ++d) {
        // At the edge of a chunk: of the first step of the chunk after it, which is there until this one's is written.
        step.direction[d].next = dgates(d, s + 1 < end ? s + 1 - first : 0);
        step.direction[d].dgates = dgates(d, s - first);
      }
      FR_TRY(call_.steps.backward(call_.e, call_.step_kernel(s == end - 1), step, call_.stream));
    }
    return Status::ok;
  }

  // dW, dR, db and dX of the steps [first, end) of a direction.
  Status gradients(int l, int d, int64_t first, int64_t end) const {
    const int index = l * desc_.directions + d;
    const int64_t rows = (end - first) * desc_.B, pitch = size_.input_pitch(l);
    const LayerGrads& grads = args_.dweights[index];
    const void* const x_part = call_.e_at(dgates(d, 0), size_.cell.x_first * size_.Hp);
    const void* const h_part = call_.e_at(dgates(d, 0), size_.cell.h_first * size_.Hp);
    if (grads.weight_ih) {
      const void* const below = l == 0 ? nullptr : tape((l - 1) * desc_.directions).hidden;
      FR_TRY(stage_input(call_, walk_, args_.x, below, l, d, first, end, scratch_.xs[d]));
      FR_TRY(weight(x_part, size_.cell.x_gate, scratch_.xs[d], pitch, size_.inputs(l), rows, grads.weight_ih));
    }
    if (grads.weight_hh) {
      const void* const before = call_.e_at(tape(index).before, first * desc_.B * size_.Hp);
      FR_TRY(weight(h_part, size_.cell.h_gate, before, size_.Hp, desc_.H, rows, grads.weight_hh));
    }
    if (grads.bias_ih) FR_TRY(bias(x_part, size_.cell.x_gate, rows, grads.bias_ih));
    if (grads.bias_hh) FR_TRY(bias(h_part, size_.cell.h_gate, rows, grads.bias_hh));
    return input(l, d, first, end, x_part);
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

  // dX = part W, through the dropout that the layer's input went through.
  Status input(int l, int d, int64_t first, int64_t end, const void* part) const {
    const Array3 dx = dx_of(l);
    if (!dx.data) return Status::ok;
    const PackedLayer weights = packed_layer(size_, args_.packed, l * desc_.directions + d);
    const int64_t width = size_.inputs(l);
    FR_TRY(multiply(call_.e, call_.plain,
                    {GemmKind::nt, part, weights.w_back, nullptr, scratch_.dxs, (end - first) * desc_.B, width,
                     size_.gate_pitch(), size_.dgates_pitch(), size_.gate_pitch(), width, 1, 0},
                    call_.stream));
    const double p = l > 0 ? desc_.dropout : 0;
    return unstage(call_.e,
                   {walk_, dx, scratch_.dxs, first, end - first, desc_.B, width, width, d == 1, desc_.directions == 2,
                    p > 0, Dropout(p, desc_.dropout_key, static_cast<uint32_t>(l))},
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
  return by_graph(std::move(key), desc->T * desc->layers, stream, run);
}

}  // namespace fusedrnn::cuda
