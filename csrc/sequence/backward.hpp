// The time loop of back-propagation through time, compiled once for all cells; the grid of threads and the rows are
// forward's.
//
// Steps run from the last to the first, in chunks. Per step: dh = dgates(next step) R, whose tile's epilogue adds dy
// and the carry's gradient and turns them into this step's dgates. Per chunk, while its dgates are in cache: dW, dR, db
// and dX. Weight gradients sum over (step, row) pairs in an order that only sizes fix; the whole team meets once per
// chunk, and two dgates buffers taken in turn make that one barrier enough.
#pragma once

#include "sequence/backward_step.hpp"
#include "sequence/flow.hpp"
#include "sequence/gradients.hpp"
#include "sequence/plan.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class E>
class Backward {
  using T = typename E::Storage;
  using L = Lanes<typename E::Accumulator>;
  using V = typename L::V;
  static constexpr int N = L::N, NV = EngineOf<E>::vectors;

 public:
  Backward(const BackwardKernels<E>& kernels, const SequenceDesc& desc, const BackwardArgs& args, const Plan& plan,
           void* workspace, Team* team)
      : kernels_(kernels),
        desc_(desc),
        args_(args),
        plan_(plan),
        size_(desc),
        cell_(size_.cell),
        team_(team),
        scratch_(scratch<E>(desc, plan, true, workspace)),
        group_threads_(plan.row_groups * plan.unit_groups) {
    order_rows(args.lengths, args.order, desc.T, desc.B, scratch_.order);
    for (int i = 0; i < barriers_of(plan); ++i) scratch_.barrier[i] = Barrier{};
    for (int64_t i = 0; i < scratch_.zeros_count; ++i) scratch_.zeros[i] = T(0);
  }

  void run() {
    parallel_products<EngineOf<E>>(team_, threads_of(plan_), [&](int32_t thread) { Thread(*this, thread).run(); });
  }

 private:
  // One direction of one layer: its weights, its tape, and its gradients' way in and out.
  struct Pass {
    int layer, direction, index;
    PackedLayer<E> weights;
    LayerGrads grads;
    Walk walk;
    Array3 input, h, c, dy, dx;  // h, c: as the tape keeps them, offset to the direction; dy likewise
    const T *gates, *row;
    int64_t inputs;
  };

  Array3 tape_hidden(int l) const {
    return dense(tape_layer<T>(desc_, args_.tape, l * desc_.directions).h, desc_.B, size_.width());
  }

  // Where the gradient of layer l's input goes.
  Array3 dx_of(int l) const { return l == 0 ? args_.dx : dense(scratch_.hidden[(l - 1) % 2], desc_.B, size_.width()); }

  Pass make_pass(int l, int d, const Array3& input) const {
    const int index = l * desc_.directions + d;
    const int64_t B = desc_.B, H = desc_.H, width = size_.width();
    const TapeLayer<T> tape = tape_layer<T>(desc_, args_.tape, index);
    Array3 dy = l == desc_.layers - 1 ? args_.dy : dense(scratch_.hidden[l % 2], B, width);
    if (dy.data) dy.data = static_cast<T*>(dy.data) + d * size_.state();
    return Pass{l,
                d,
                index,
                packed_layer<E>(desc_, args_.packed, index),
                args_.dweights[index],
                Walk{scratch_.order, args_.resets, args_.resets_stride0, args_.resets_stride1, d == 1},
                input,
                dense(tape.h, B, width),
                dense(tape.c, B, H),
                dy,
                d == 1 && plan_.direction_groups > 1 && dx_of(l).data ? dense(scratch_.dx_reverse, B, size_.inputs(l))
                                                                      : dx_of(l),
                tape.gates,
                tape.row,
                size_.inputs(l)};
  }

  class Thread {
   public:
    Thread(const Backward& all, int32_t thread)
        : f_(all),
          position_(all.plan_, thread),
          barriers_(all.team_, all.scratch_.barrier, all.plan_, position_),
          thread_(thread % all.group_threads_),
          rows_{position_.row, all.plan_.row_groups},
          unit_group_(position_.unit),
          part_(part(all, thread, position_.unit)),
          carry_(all.scratch_.carry + position_.direction * all.desc_.B * all.desc_.H),
          row_count_(rows_.count(all.desc_.B)),
          masks_(all.desc_, all.scratch_.masks, all.scratch_.order, rows_, position_.direction,
                 all.scratch_.masks.keep + thread * all.scratch_.group_rows * 2 * all.desc_.H,
                 all.scratch_.masks.rows + thread * all.scratch_.group_rows, states(), finished_units()),
          flow_(all.desc_, all.args_, all.scratch_.flow, position_.direction) {}

    void run() {
      const SequenceDesc& desc = f_.desc_;
      for (int l = desc.layers - 1; l >= 0; --l) {
        const Array3 input = l == 0 ? f_.args_.x : layer_input(l);
        for (int d = 0; d < desc.directions; ++d)
          if (f_.plan_.direction_groups == 1 || d == position_.direction) direction(f_.make_pass(l, d, input));
        if (f_.plan_.direction_groups > 1) add_reverse(l);
        if (l > 0) {
          barriers_.all();
          if (desc.dropout > 0) mask_rows(l, dense(f_.scratch_.hidden[(l - 1) % 2], desc.B, f_.size_.width()));
        }
      }
      if (f_.args_.lengths && !f_.args_.steps && f_.args_.dx.data) clear_padding();
      pass_empty_rows();
    }

   private:
    static BackwardPart<E> part(const Backward& all, int32_t thread, int64_t unit_group) {
      const Scratch<E>& scratch = all.scratch_;
      const Panels panels = plain_panels<E>(all.desc_.H), states = plain_panels<E>(all.size_.state());
      return {engine_of<E>(all.desc_.precision),
              all.desc_.H,
              all.size_.state(),
              panels,
              share(panels.count, all.plan_.unit_groups, unit_group),
              share(panels.count, all.plan_.unit_groups, unit_group + 1),
              states,
              share(states.count, all.plan_.unit_groups, unit_group),
              share(states.count, all.plan_.unit_groups, unit_group + 1),
              unit_group,
              all.plan_.unit_groups,
              scratch.pointers + thread * scratch.tables * scratch.pointer_rows,
              scratch.operands + thread * scratch.operand_elements,
              scratch.backward_rows + thread * scratch.group_rows};
    }

    // My units, and those of h.
    UnitRange units() const { return range(part_.panels, part_.first_panel, part_.last_panel, f_.desc_.H); }
    UnitRange states() const {
      return range(part_.state_panels, part_.first_state_panel, part_.last_state_panel, part_.P);
    }
    static UnitRange range(const Panels& panels, int64_t first, int64_t last, int64_t units) {
      return {first < panels.count ? panels.begin(first) * N : units,
              last < panels.count ? panels.begin(last) * N : units};
    }

    FinishedUnits finished_units() const {
      const UnitRange all{0, f_.desc_.H};
      if (f_.cell_.normalises) return {all, all, unit_group_, f_.plan_.unit_groups};
      return {states(), units()};
    }

    // The steps of a row are shared out among the threads that work on it.
    int64_t sharers() const { return f_.plan_.direction_groups * f_.plan_.unit_groups; }
    int64_t share_of_steps() const { return position_.direction * f_.plan_.unit_groups + unit_group_; }

    // from -> to through layer l's dropout, my rows and my share of the steps. All wait, for the result is read by all.
    void mask_rows(int l, const Array3& from, const Array3& to) const {
      const SequenceDesc& desc = f_.desc_;
      const int64_t width = f_.size_.width();
      const Dropout mask =
          Dropout(desc.dropout, desc.dropout_key, desc.dropout_key_at, static_cast<uint32_t>(l)).read();
      for (int64_t i = 0; i < row_count_; ++i) {
        const int64_t r = rows_.row(i), b = f_.scratch_.order.batch[r], length = f_.scratch_.order.length[r];
        for (int64_t t = share_of_steps(); t < length; t += sharers())
          dropout_elements(mask, at_step<T>(from, f_.args_.steps, t, b), at_step<T>(to, f_.args_.steps, t, b), width,
                           input_element(desc, t, b, width));
      }
      barriers_.all();
    }
    void mask_rows(int l, const Array3& in_place) const { mask_rows(l, in_place, in_place); }

    Array3 layer_input(int l) const {
      const Array3 below = f_.tape_hidden(l - 1);
      if (f_.desc_.dropout <= 0) return below;
      const Array3 dropped = dense(f_.scratch_.dropped, f_.desc_.B, f_.size_.width());
      mask_rows(l, below, dropped);
      return dropped;
    }

    void direction(const Pass& pass) {
      const int64_t steps = f_.desc_.B > 0 ? f_.scratch_.order.length[0] : 0, chunk = f_.plan_.chunk_steps;
      const int64_t chunks = (steps + chunk - 1) / chunk;
      // Buffers alternate over directions and layers too: the last chunk written was the one with (0 + turn_) % 2.
      turn_ = (turn_ + chunks) % 2;
      masks_.begin(pass.index);
      LayerGrads grads = pass.grads;
      T* const dropped = dropped_gradient(pass);
      if (dropped) {
        grads.weight[kWeightHh] = dropped;
        for_own_rows_of_r([&](int64_t first, int64_t last) {
          for (int64_t k = first * part_.P; k < last * part_.P; ++k) dropped[k] = T(0);
        });
      }
      const ChunkGradients<E> gradients(part_.engine, f_.cell_, f_.desc_.H, part_.P, pass.inputs, chunk * f_.desc_.B,
                                        pass.weights, grads, sums(pass), thread_, f_.group_threads_, part_.memory);
      if (!f_.args_.sums) gradients.begin_sums();
      for (int64_t c = chunks - 1; c >= 0; --c) {
        const int64_t first = c * chunk, end = first + chunk < steps ? first + chunk : steps;
        for (int64_t s = end - 1; s >= first; --s) {
          step(pass, s);
          barriers_.row_group();
          if (f_.desc_.flow) add_flow(pass, s);
        }
        barriers_.direction();
        if (c == 0) initial_state(pass);
        chunk_gradients(pass, gradients, first, end);
      }
      if (!f_.args_.sums) gradients.end_sums();
      if (dropped)
        for_own_rows_of_r([&](int64_t first, int64_t last) {
          add_dropped_gradient(f_.desc_, pass.index, dropped, static_cast<T*>(pass.grads.weight[kWeightHh]), first,
                               last);
        });
      if (f_.desc_.flow) {
        flow_.norms(pass.index, share(f_.desc_.T, f_.group_threads_, thread_),
                    share(f_.desc_.T, f_.group_threads_, thread_ + 1));
        barriers_.direction();  // the sums are read: another direction's may take their place
      }
    }

    // The rows of a step are shared out among the threads that made them.
    void add_flow(const Pass& pass, int64_t s) const {
      const int64_t active = rows_.count(f_.scratch_.order.active[s]);
      for (int64_t i = unit_group_; i < active; i += f_.plan_.unit_groups) {
        const int64_t r = rows_.row(i);
        flow_.add_row(s, r, pass.walk.time(s, r), pass.walk.order.batch[r]);
      }
    }

    // Mine of this direction, or those that go on from piece to piece.
    ColumnSums<T> sums(const Pass& pass) const {
      T* const given = static_cast<T*>(f_.args_.sums);
      const int64_t columns = f_.cell_.dgate_blocks * f_.desc_.H;
      return given ? column_sums(given, pass.index, columns)
                   : column_sums(f_.scratch_.sums, position_.direction, columns);
    }

    // Where the gradient of R is summed before weight dropout, null where it goes straight to its place.
    T* dropped_gradient(const Pass& pass) const {
      const bool drops = f_.desc_.weight_dropout > 0 && !f_.args_.sums && pass.grads.weight[kWeightHh];
      const int64_t elements = f_.cell_.gates * f_.desc_.H * part_.P;
      return drops ? f_.scratch_.dropped_gradient + position_.direction * elements : nullptr;
    }

    // visit(first, last): the rows of R that chunk_gradients gives to this thread, those of each gate.
    template <class Visit>
    void for_own_rows_of_r(const Visit& visit) const {
      const int64_t H = f_.desc_.H, first = share(H, f_.group_threads_, thread_);
      for (int gate = 0; gate < f_.cell_.gates; ++gate)
        visit(gate * H + first, gate * H + share(H, f_.group_threads_, thread_ + 1));
    }

    // Row r of step s in one of two buffers of a chunk's rows.
    T* chunk_row(T* const (&buffer)[2], int64_t s, int64_t r, int64_t width) const {
      const int64_t chunk = s / f_.plan_.chunk_steps, at_step = s % f_.plan_.chunk_steps;
      const int64_t row = (position_.direction * f_.plan_.chunk_steps + at_step) * f_.desc_.B + r;
      return buffer[(chunk + turn_) % 2] + row * width;
    }
    T* dgates(int64_t s, int64_t r) const {
      return chunk_row(f_.scratch_.dgates, s, r, f_.cell_.dgate_blocks * f_.desc_.H);
    }
    T* gated(int64_t s, int64_t r) const { return chunk_row(f_.scratch_.gated, s, r, f_.desc_.H); }
    T* masked(int64_t s, int64_t r) const { return chunk_row(f_.scratch_.masks.masked, s, r, part_.P); }
    // Of a cell that projects h.
    T* dh(int64_t s, int64_t r) const { return chunk_row(f_.scratch_.dh, s, r, part_.P); }
    T* output(int64_t s, int64_t r) const { return chunk_row(f_.scratch_.output, s, r, f_.desc_.H); }

    // The h part of the next step's dgates, or zeros where the link to it is cut.
    const T* dgates_after(const Walk& walk, int64_t s, int64_t r) const {
      return walk.cut(s + 1, r) ? f_.scratch_.zeros : dgates(s + 1, r) + f_.cell_.h_first * f_.desc_.H;
    }

    void step(const Pass& pass, int64_t s) {
      const RowOrder& order = f_.scratch_.order;
      const int64_t active = rows_.count(order.active[s]), continuing = rows_.count(order.active[s + 1]);
      gather_rows(pass, s, active, continuing);
      f_.kernels_.step(part_, pass.weights, continuing, active);
      if (f_.kernels_.finish) {
        barriers_.row_group();
        f_.kernels_.finish(part_, pass.weights, active);
      }
    }

    void gather_rows(const Pass& pass, int64_t s, int64_t active, int64_t continuing) {
      const SequenceDesc& desc = f_.desc_;
      const int64_t H = desc.H;
      const T* zeros = f_.scratch_.zeros;
      const int64_t* const steps = f_.args_.steps;
      const Array3 gates = dense(pass.gates, desc.B, f_.cell_.tape_blocks * H);
      const Array3 values = dense(pass.row, desc.B, f_.cell_.row_values);
      for (int64_t i = 0; i < active; ++i) {
        const int64_t r = rows_.row(i), b = pass.walk.order.batch[r], t = pass.walk.time(s, r);
        BackwardRow<T>& row = part_.row[i];
        row.dy = pass.dy.data ? at_step<T>(pass.dy, steps, t, b) : nullptr;
        row.start = nullptr;
        row.gates = at_step<T>(gates, steps, t, b);
        row.values = at_step<T>(values, steps, t, b);
        row.dgates = dgates(s, r);
        row.dcarry_prev = carry_ + r * H;
        row.gated = f_.cell_.gated_gates > 0 ? gated(s, r) : nullptr;
        row.between = between_row(f_.scratch_, f_.cell_, position_.direction, desc, r);
        if (f_.cell_.projection >= 0) {
          row.dh = dh(s, r);
          row.output = output(s, r);
        }
        row.flow = desc.flow ? flow_.row(s, r) : nullptr;
        row.masks = nullptr;
        if (masks_.any()) row.masks = &mask_row_of(pass, s, i, r, t, i < continuing);
        if (f_.cell_.has_cell_state) {
          row.carry = at_step<T>(pass.c, steps, t, b);
          row.carry_prev = state_before(pass.walk, s, r, f_.args_.c0, pass.index, pass.c, steps, zeros);
        } else {
          row.carry = at_step<T>(pass.h, steps, t, b);
          row.carry_prev = state_before(pass.walk, s, r, f_.args_.h0, pass.index, pass.h, steps, zeros);
        }
        if (i < continuing) {
          part_.table[i] = dgates_after(pass.walk, s, r);
          row.dcarry = pass.walk.cut(s + 1, r) ? zeros : row.dcarry_prev;
        } else {
          row.start = at_or_null<T>(f_.args_.dhn, pass.index, b);
          const T* dcn = f_.cell_.carry_gradient ? at_or_null<T>(f_.args_.dcn, pass.index, b) : nullptr;
          row.dcarry = dcn ? dcn : zeros;
        }
      }
    }

    MaskRow<T>& mask_row_of(const Pass& pass, int64_t s, int64_t i, int64_t r, int64_t t, bool continues) {
      MaskRow<T>& masks = masks_.row(
          i, r, t, state_before(pass.walk, s, r, f_.args_.h0, pass.index, pass.h, f_.args_.steps, f_.scratch_.zeros));
      if (masks.recurrent) masks.masked = masked(s, r);
      if (continues && !pass.walk.cut(s + 1, r)) masks.past_after = masks.past;
      return masks;
    }

    // dh0 and dc0 from the first step: the same product once more, its epilogue only storing.
    void initial_state(const Pass& pass) {
      const SequenceDesc& desc = f_.desc_;
      const int64_t H = desc.H, active = rows_.count(f_.scratch_.order.active[0]);
      const bool direct = f_.cell_.carry_gradient && !f_.cell_.has_cell_state && !f_.args_.dc0.data;
      for (int64_t i = 0; i < active; ++i) {
        const int64_t r = rows_.row(i), b = pass.walk.order.batch[r];
        const bool cut = pass.walk.cut(0, r);
        part_.table[i] = cut ? f_.scratch_.zeros : dgates(0, r) + f_.cell_.h_first * H;
        part_.row[i].dgates = at_or_null<T>(f_.args_.dh0, pass.index, b);
        part_.row[i].dcarry_prev = at_or_null<T>(f_.args_.dc0, pass.index, b);
        part_.row[i].dcarry = cut || !f_.cell_.carry_gradient ? f_.scratch_.zeros : carry_ + r * H;
        if (masks_.any()) part_.row[i].masks = &masks_.behind_initial(i, r, cut);
      }
      if (!f_.args_.dh0.data) return;
      multiply<E, NV>(part_.engine, part_.table, active, pass.weights.r_back, part_.state_panels,
                      f_.size_.open_gates() * H, part_.first_state_panel, part_.last_state_panel, part_.memory,
                      [&](int64_t begin, int64_t first, int tall, int wide, const auto* tile) {
                        for (int r = 0; r < tall; ++r)
                          for (int v = 0; v < wide; ++v, tile += N) {
                            const BackwardRow<T>& row = part_.row[first + r];
                            const int64_t unit = (begin + v) * N;
                            const V dh = arriving<E>(row, unit, part_.P, L::load(tile));
                            store_units(row.dgates, unit, part_.P, direct ? dh + load_units(row.dcarry, unit, H) : dh);
                          }
                      });
      const UnitRange mine = units();
      for (int64_t i = 0; i < active; ++i)
        if (T* const to = part_.row[i].dcarry_prev)
          copy_row<T>(to + mine.first, part_.row[i].dcarry + mine.first, mine.last - mine.first);
    }

    // dW, dR, db and dX of the steps [first, end), shared out over the direction group.
    void chunk_gradients(const Pass& pass, const ChunkGradients<E>& gradients, int64_t first, int64_t end) {
      const int64_t H = f_.desc_.H, stride = f_.scratch_.pointer_rows;
      const T **const gate = part_.table, **const before = gate + stride, **const input = before + stride;
      const T** const gated_h = f_.cell_.gated_gates > 0 ? input + stride : nullptr;
      const auto for_pairs = [&](auto&& visit) {
        int64_t pairs = 0;
        for (int64_t s = end - 1; s >= first; --s)
          for (int64_t r = 0; r < f_.scratch_.order.active[s]; ++r) visit(pairs++, s, r);
        return pairs;
      };
      const auto row = [&](const Array3& array, int64_t s, int64_t r) {
        return at_step<T>(array, f_.args_.steps, pass.walk.time(s, r), pass.walk.order.batch[r]);
      };
      const int64_t pairs = for_pairs([&](int64_t k, int64_t s, int64_t r) {
        gate[k] = dgates(s, r);
        before[k] = drops_states(f_.desc_) ? masked(s, r)
                                           : state_before(pass.walk, s, r, f_.args_.h0, pass.index, pass.h,
                                                          f_.args_.steps, f_.scratch_.zeros);
        input[k] = row(pass.input, s, r);
        if (gated_h) gated_h[k] = gated(s, r);
      });
      gradients.weights(gate, before, gated_h, input, pairs);
      if (f_.cell_.projection >= 0) {
        for_pairs([&](int64_t k, int64_t s, int64_t r) {
          before[k] = dh(s, r);
          input[k] = output(s, r);
        });
        gradients.projection(before, input, pairs);
      }
      if (!pass.dx.data) return;
      T** const dx = const_cast<T**>(input);
      for_pairs([&](int64_t k, int64_t s, int64_t r) {
        gate[k] += f_.cell_.x_first * H;
        dx[k] = row(pass.dx, s, r);
      });
      gradients.inputs(gate, dx, pairs, pass.direction > 0 && f_.plan_.direction_groups == 1);
    }

    // dX of the second direction, where it went its own way, joins that of the first: the sum that adding in turn
    // gives.
    void add_reverse(int l) const {
      barriers_.all();
      const Array3 dx = f_.dx_of(l), reverse = dense(f_.scratch_.dx_reverse, f_.desc_.B, f_.size_.inputs(l));
      if (!dx.data) return;
      for (int64_t i = 0; i < row_count_; ++i) {
        const int64_t r = rows_.row(i), b = f_.scratch_.order.batch[r], length = f_.scratch_.order.length[r];
        for (int64_t t = share_of_steps(); t < length; t += sharers()) {
          T* const to = at_step<T>(dx, f_.args_.steps, t, b);
          const T* const from = at_step<T>(reverse, f_.args_.steps, t, b);
          for (int64_t k = 0; k < f_.size_.inputs(l); ++k) to[k] = to[k] + from[k];
        }
      }
    }

    // dx is exactly zero past a row's length.
    void clear_padding() const {
      const SequenceDesc& desc = f_.desc_;
      for (int64_t i = 0; i < row_count_; ++i) {
        const int64_t r = rows_.row(i), b = f_.scratch_.order.batch[r];
        for (int64_t t = f_.scratch_.order.length[r] + share_of_steps(); t < desc.T; t += sharers())
          copy_row<T>(at<T>(f_.args_.dx, t, b), nullptr, desc.I);
      }
    }

    // A row without steps hands the gradient of its final state to the initial one.
    void pass_empty_rows() const {
      if (share_of_steps() != 0) return;
      const SequenceDesc& desc = f_.desc_;
      for (int64_t i = row_count_ - 1; i >= 0 && f_.scratch_.order.length[rows_.row(i)] == 0; --i)
        for (int index = 0; index < f_.size_.stacks(); ++index) {
          const int64_t b = f_.scratch_.order.batch[rows_.row(i)];
          if (f_.args_.dh0.data)
            copy_row(at<T>(f_.args_.dh0, index, b), at_or_null<T>(f_.args_.dhn, index, b), part_.P);
          if (f_.args_.dc0.data) copy_row(at<T>(f_.args_.dc0, index, b), at_or_null<T>(f_.args_.dcn, index, b), desc.H);
        }
    }

    const Backward& f_;
    const GridPosition position_;
    const Barriers barriers_;
    const int32_t thread_;  // in its direction group
    const RowGroup rows_;
    const int64_t unit_group_;
    const BackwardPart<E> part_;
    T* const carry_;
    const int64_t row_count_;
    UnitMasks<E> masks_;
    const Flow<T> flow_;
    int64_t turn_ = 0;
  };

  const BackwardKernels<E>& kernels_;
  const SequenceDesc& desc_;
  const BackwardArgs& args_;
  const Plan& plan_;
  const StackSize<E> size_;
  const CellFacts& cell_;
  Team* const team_;
  const Scratch<E> scratch_;
  const int32_t group_threads_;  // of a direction group
};

}  // namespace fusedrnn::FUSEDRNN_ISA
