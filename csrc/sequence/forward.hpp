// The time loop of forward, compiled once for all cells: knows time, batch, memory and threads; knows no sigmoid.
//
// A thread of the grid owns the rows of its row group and the unit panels of its part, through all layers and all
// directions, or one direction of two.
// Per chunk of steps it computes its X W as one product, then per step h R, whose tile's epilogue adds the two and
// finishes the cell. With several unit groups a barrier inside the row group ends every step; rows never wait for rows.
#pragma once

#include "sequence/forward_step.hpp"
#include "sequence/plan.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class E>
class Forward {
  using T = typename E::Storage;
  static constexpr int N = Lanes<typename E::Accumulator>::N;

 public:
  Forward(const ForwardKernels<E>& kernels, const SequenceDesc& desc, const ForwardArgs& args, const Plan& plan,
          void* workspace, Team* team)
      : kernels_(kernels),
        desc_(desc),
        args_(args),
        plan_(plan),
        size_(desc),
        cell_(size_.cell),
        team_(team),
        scratch_(scratch<E>(desc, plan, false, workspace)) {
    order_rows(args.lengths, args.order, desc.T, desc.B, scratch_.order);
    for (int i = 0; i < barriers_of(plan); ++i) scratch_.barrier[i] = Barrier{};
    const int64_t zeros = scratch_.zeros_count;
    for (int64_t i = 0; i < zeros; ++i) scratch_.zeros[i] = T(0);
    const int64_t gates = rows_of(desc) * desc.H * cell_.tape_blocks * static_cast<int64_t>(sizeof(T));
    streams_ = kStreams && desc.train && gates >= kStreamedTape && desc.H % N == 0;
    streams_y_ = streams_ && on_lines<T>(args.y.data, args.y.stride0, args.y.stride1);
  }

  void run() {
    parallel_products<EngineOf<E>>(team_, threads_of(plan_), [&](int32_t thread) { Thread(*this, thread).run(); });
  }

 private:
  // Where a layer's outputs go: the tape, a scratch between layers, or straight to y.
  Array3 hidden(int l) const {
    const int64_t width = size_.width();
    if (desc_.train) return dense(tape_layer<T>(desc_, args_.tape, l * desc_.directions).h, desc_.B, width);
    if (l == desc_.layers - 1) return args_.y;
    return dense(scratch_.hidden[l % 2], desc_.B, width);
  }

  class Thread {
   public:
    Thread(const Forward& all, int32_t thread)
        : f_(all),
          position_(all.plan_, thread),
          barriers_(all.team_, all.scratch_.barrier, all.plan_, position_),
          rows_{position_.row, all.plan_.row_groups},
          unit_group_(position_.unit),
          part_(part(all, thread, unit_group_)),
          pre_(all.scratch_.pre + thread * all.scratch_.pre_elements),
          row_count_(rows_.count(all.desc_.B)),
          masks_(all.desc_, all.scratch_.masks, all.scratch_.order, rows_, position_.direction,
                 all.scratch_.masks.keep + thread * all.scratch_.group_rows * 2 * all.desc_.H,
                 all.scratch_.masks.rows + thread * all.scratch_.group_rows, states(), finished_units()),
          steps_(row_count_ > 0 ? all.scratch_.order.length[rows_.row(0)] : 0) {}

    void run() {
      const SequenceDesc& desc = f_.desc_;
      for (int l = 0; l < desc.layers; ++l) {
        const Array3 input = l == 0 ? f_.args_.x : layer_input(l);
        for (int d = 0; d < desc.directions; ++d)
          if (f_.plan_.direction_groups == 1 || d == position_.direction) direction(l, d, input);
        if (f_.plan_.direction_groups > 1) barriers_.all();
      }
      if (f_.args_.lengths && !f_.args_.steps) clear_padding();
      pass_empty_rows();
      if (f_.streams_) settle_streams();
    }

   private:
    static ForwardPart<E> part(const Forward& all, int32_t thread, int64_t unit_group) {
      const Scratch<E>& scratch = all.scratch_;
      const Panels panels = all.size_.gates();
      const int64_t first = all.size_.first_panel(unit_group, all.plan_.unit_groups);
      const int64_t last = all.size_.first_panel(unit_group + 1, all.plan_.unit_groups);
      const Panels states = plain_panels<E>(all.size_.state());
      return {engine_of<E>(all.desc_.precision),
              all.desc_.H,
              all.size_.state(),
              panels,
              first,
              last,
              panels.begin(first),
              states,
              share(states.count, all.plan_.unit_groups, unit_group),
              share(states.count, all.plan_.unit_groups, unit_group + 1),
              unit_group,
              all.plan_.unit_groups,
              (panels.begin(last) - panels.begin(first)) * N,
              scratch.pointers + thread * scratch.pointer_rows,
              scratch.operands + thread * scratch.operand_elements,
              scratch.forward_rows + thread * scratch.group_rows};
    }

    // The first unit of a panel.
    int64_t unit_at(int64_t panel) const {
      return panel < part_.panels.count ? part_.panels.begin(panel) / f_.cell_.gates * N : f_.desc_.H;
    }
    UnitRange units() const { return {unit_at(part_.first_panel), unit_at(part_.last_panel)}; }

    // My units of h: those whose cells I compute, or whose projections.
    UnitRange states() const {
      const auto at = [&](int64_t panel) {
        return panel < part_.state_panels.count ? part_.state_panels.begin(panel) * N : part_.P;
      };
      return f_.cell_.projection < 0 ? units() : UnitRange{at(part_.first_state_panel), at(part_.last_state_panel)};
    }

    FinishedUnits finished_units() const {
      const UnitRange all{0, f_.desc_.H};
      if (f_.cell_.normalises) return {all, all, unit_group_, f_.plan_.unit_groups};
      return {states(), units()};
    }

    // The steps of a row are shared out among the threads that work on it.
    int64_t sharers() const { return f_.plan_.direction_groups * f_.plan_.unit_groups; }
    int64_t share_of_steps() const { return position_.direction * f_.plan_.unit_groups + unit_group_; }

    Array3 layer_input(int l) const {
      const SequenceDesc& desc = f_.desc_;
      const Array3 below = f_.hidden(l - 1);
      if (!desc.train || desc.dropout <= 0) return below;
      const int64_t width = f_.size_.width();
      const Array3 dropped = dense(f_.scratch_.dropped, desc.B, width);
      const Dropout mask =
          Dropout(desc.dropout, desc.dropout_key, desc.dropout_key_at, static_cast<uint32_t>(l)).read();
      for (int64_t i = 0; i < row_count_; ++i) {
        const int64_t r = rows_.row(i), b = f_.scratch_.order.batch[r], length = f_.scratch_.order.length[r];
        for (int64_t t = share_of_steps(); t < length; t += sharers())
          dropout_elements(mask, at_step<T>(below, f_.args_.steps, t, b), at_step<T>(dropped, f_.args_.steps, t, b),
                           width, input_element(desc, t, b, width));
      }
      f_.plan_.direction_groups > 1 ? barriers_.all() : barriers_.row_group();
      return dropped;
    }

    // One direction of one layer, and where its results go.
    struct Pass {
      int index;
      Walk walk;
      Array3 h, y, c, gates, values;  // h, y: offset to the direction; absent: y where h goes there, what has no tape
      const int64_t* steps_of_c;
    };

    Pass make_pass(int l, int d) const {
      const SequenceDesc& desc = f_.desc_;
      const int index = l * desc.directions + d;
      const TapeLayer<T> tape = desc.train ? tape_layer<T>(desc, f_.args_.tape, index) : TapeLayer<T>{};
      Array3 h = f_.hidden(l), y = desc.train && l == desc.layers - 1 ? f_.args_.y : Array3{};
      h.data = static_cast<T*>(h.data) + d * part_.P;
      if (y.data) y.data = static_cast<T*>(y.data) + d * part_.P;
      // Without a tape a row has one cell state, whatever the step.
      T* const carry = f_.scratch_.carry + position_.direction * desc.B * desc.H;
      return {index,
              Walk{f_.scratch_.order, f_.args_.resets, f_.args_.resets_stride0, f_.args_.resets_stride1, d == 1},
              h,
              y,
              desc.train ? dense(tape.c, desc.B, desc.H) : Array3{carry, 0, desc.H},
              dense(tape.gates, desc.B, f_.cell_.tape_blocks * desc.H),
              dense(tape.row, desc.B, f_.cell_.row_values),
              desc.train ? f_.args_.steps : nullptr};
    }

    void direction(int l, int d, const Array3& input) {
      const SequenceDesc& desc = f_.desc_;
      const int index = l * desc.directions + d;
      const PackedLayer<E> weights = packed_layer<E>(desc, f_.args_.packed, index);
      const Pass pass = make_pass(l, d);
      if (masks_.any()) {
        masks_.begin(index);
        masks_.mask_initial(f_.args_.h0);
        barriers_.row_group();
      }
      for (int64_t s = 0; s < steps_; s += f_.plan_.chunk_steps) {
        const int64_t end = s + f_.plan_.chunk_steps < steps_ ? s + f_.plan_.chunk_steps : steps_;
        f_.kernels_.input(part_, weights, gather_inputs(pass.walk, input, s, end), f_.size_.inputs(l), pre_);
        T* pre = pre_;
        for (int64_t step_at = s; step_at < end; ++step_at) {
          const int64_t active = rows_.count(f_.scratch_.order.active[step_at]);
          gather_rows(pass, step_at, active);
          f_.kernels_.step(part_, weights, active, pre);
          if (f_.kernels_.finish) {
            barriers_.row_group();
            f_.kernels_.finish(part_, weights, active, pre);
          }
          pre += active * part_.pre_stride;
          barriers_.row_group();
        }
      }
    }

    // The inputs of the active rows of steps [s, end), row after row; says how many.
    int64_t gather_inputs(const Walk& walk, const Array3& input, int64_t s, int64_t end) {
      int64_t rows = 0;
      for (; s < end; ++s) {
        const int64_t active = rows_.count(walk.order.active[s]);
        for (int64_t i = 0; i < active; ++i) {
          const int64_t r = rows_.row(i);
          part_.operand[rows++] = at_step<T>(input, f_.args_.steps, walk.time(s, r), walk.order.batch[r]);
        }
      }
      return rows;
    }

    void gather_rows(const Pass& pass, int64_t s, int64_t active) {
      const Walk& walk = pass.walk;
      const int64_t* const steps = f_.args_.steps;
      for (int64_t i = 0; i < active; ++i) {
        const int64_t r = rows_.row(i), b = walk.order.batch[r], t = walk.time(s, r);
        ForwardRow<T>& row = part_.row[i];
        const T* const before = state_before(walk, s, r, f_.args_.h0, pass.index, pass.h, steps, f_.scratch_.zeros);
        part_.operand[i] = before;
        row.streams_gates = f_.streams_;
        row.streams_y = f_.streams_y_;
        row.masks = nullptr;
        if (masks_.any()) {
          MaskRow<T>& masks = masks_.row(i, r, t, before);
          if (masks.recurrent) {
            masks.masked = masks_.masked(s, r);
            if (before != f_.scratch_.zeros) part_.operand[i] = masks_.masked(s + 1, r);
          }
          row.masks = &masks;
        }
        row.h = at_step<T>(pass.h, steps, t, b);
        row.y = pass.y.data ? at_step<T>(pass.y, steps, t, b) : nullptr;
        row.hn = walk.last(s, r) ? at<T>(f_.args_.hn, pass.index, b) : nullptr;
        row.gates = pass.gates.data ? at_step<T>(pass.gates, steps, t, b) : nullptr;
        row.values = pass.values.data ? at_step<T>(pass.values, steps, t, b) : nullptr;
        row.between = between_row(f_.scratch_, f_.cell_, position_.direction, f_.desc_, r);
        if (f_.cell_.has_cell_state) {
          row.carry_prev =
              state_before(walk, s, r, f_.args_.c0, pass.index, pass.c, pass.steps_of_c, f_.scratch_.zeros);
          row.carry = at_step<T>(pass.c, pass.steps_of_c, t, b);
          row.cn = walk.last(s, r) ? at<T>(f_.args_.cn, pass.index, b) : nullptr;
        } else {
          row.carry_prev = before;
        }
      }
    }

    // y is exactly zero past a row's length.
    void clear_padding() const {
      const SequenceDesc& desc = f_.desc_;
      for (int64_t i = 0; i < row_count_; ++i) {
        const int64_t r = rows_.row(i), b = f_.scratch_.order.batch[r];
        for (int64_t t = f_.scratch_.order.length[r] + share_of_steps(); t < desc.T; t += sharers()) {
          T* y = at<T>(f_.args_.y, t, b);
          for (int64_t k = 0; k < f_.size_.width(); ++k) y[k] = T(0);
        }
      }
    }

    // A row without steps ends in the state it started from.
    void pass_empty_rows() const {
      if (share_of_steps() != 0) return;
      const SequenceDesc& desc = f_.desc_;
      for (int64_t i = row_count_ - 1; i >= 0 && f_.scratch_.order.length[rows_.row(i)] == 0; --i)
        for (int index = 0; index < desc.layers * desc.directions; ++index) {
          const int64_t b = f_.scratch_.order.batch[rows_.row(i)];
          copy_row(at<T>(f_.args_.hn, index, b), at_or_null<T>(f_.args_.h0, index, b), part_.P);
          if (f_.cell_.has_cell_state)
            copy_row(at<T>(f_.args_.cn, index, b), at_or_null<T>(f_.args_.c0, index, b), desc.H);
        }
    }

    const Forward& f_;
    const GridPosition position_;
    const Barriers barriers_;
    const RowGroup rows_;
    const int64_t unit_group_;
    const ForwardPart<E> part_;
    T* const pre_;
    const int64_t row_count_;
    UnitMasks<E> masks_;
    const int64_t steps_;
  };

  const ForwardKernels<E>& kernels_;
  const SequenceDesc& desc_;
  const ForwardArgs& args_;
  const Plan& plan_;
  const StackSize<E> size_;
  const CellFacts& cell_;
  Team* const team_;
  const Scratch<E> scratch_;
  bool streams_, streams_y_;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
