// The time loop of forward, for any cell: knows time, batch, memory and threads; knows no sigmoid.
//
// A thread of the grid owns the rows of its row group and the unit panels of its part, through all layers and all
// directions, or one direction of two.
// Per chunk of steps it computes its X W as one product, then per step h R, whose tile's epilogue adds the two and
// finishes the cell. With several unit groups a barrier inside the row group ends every step; rows never wait for rows.
#pragma once

#include "layers/philox.hpp"
#include "sequence/plan.hpp"
#include "sequence/rows.hpp"
#include "simd/math.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class Cell, class E>
class Forward {
  using T = typename E::Storage;
  using L = Lanes<typename E::Accumulator>;
  using V = typename L::V;
  using Shape = PanelShape<Cell, E>;
  static constexpr int N = L::N, G = Cell::gates, U = Shape::units, NV = Shape::vectors;

 public:
  Forward(const SequenceDesc& desc, const ForwardArgs& args, const Plan& plan, void* workspace, Team* team)
      : desc_(desc),
        args_(args),
        plan_(plan),
        size_(desc),
        team_(team),
        scratch_(scratch<Cell, E>(desc, plan, false, workspace)) {
    order_rows(args.lengths, desc.T, desc.B, scratch_.order);
    for (int i = 0; i < barriers_of(plan); ++i) scratch_.barrier[i] = Barrier{};
    const int64_t zeros = scratch_.zeros_count;
    for (int64_t i = 0; i < zeros; ++i) scratch_.zeros[i] = T(0);
  }

  void run() {
    parallel_products<EngineOf<E>>(team_, threads_of(plan_), [&](int32_t thread) { Thread(*this, thread).run(); });
  }

 private:
  // What one row of one step writes, and the carry it starts from.
  using Row = ForwardRow<T>;

  // Where a layer's outputs go: the tape, a scratch between layers, or straight to y.
  Array3 hidden(int l) const {
    const int64_t width = desc_.directions * desc_.H;
    if (desc_.train) return dense(tape_layer<Cell, T>(desc_, args_.tape, l * desc_.directions).h, desc_.B, width);
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
          panels_(all.size_.gates()),
          first_panel_(share(panels_.count, all.plan_.unit_groups, unit_group_)),
          last_panel_(share(panels_.count, all.plan_.unit_groups, unit_group_ + 1)),
          first_vector_(panels_.begin(first_panel_)),
          pre_stride_((panels_.begin(last_panel_) - first_vector_) * N),
          pre_(all.scratch_.pre + thread * all.scratch_.pre_elements),
          memory_(all.scratch_.operands + thread * all.scratch_.operand_elements),
          operand_(all.scratch_.pointers + thread * all.scratch_.pointer_rows),
          row_(all.scratch_.forward_rows + thread * all.scratch_.group_rows),
          row_count_(rows_.count(all.desc_.B)),
          steps_(row_count_ > 0 ? all.scratch_.order.length[rows_.row(0)] : 0) {}

    void run() {
      const SequenceDesc& desc = f_.desc_;
      for (int l = 0; l < desc.layers; ++l) {
        const Array3 input = l == 0 ? f_.args_.x : layer_input(l);
        for (int d = 0; d < desc.directions; ++d)
          if (f_.plan_.direction_groups == 1 || d == position_.direction) direction(l, d, input);
        if (f_.plan_.direction_groups > 1) barriers_.all();
      }
      if (f_.args_.lengths) clear_padding();
      pass_empty_rows();
    }

   private:
    // The steps of a row are shared out among the threads that work on it.
    int64_t sharers() const { return f_.plan_.direction_groups * f_.plan_.unit_groups; }
    int64_t share_of_steps() const { return position_.direction * f_.plan_.unit_groups + unit_group_; }

    Array3 layer_input(int l) const {
      const SequenceDesc& desc = f_.desc_;
      const Array3 below = f_.hidden(l - 1);
      if (!desc.train || desc.dropout <= 0) return below;
      const int64_t width = desc.directions * desc.H;
      const Array3 dropped = dense(f_.scratch_.dropped, desc.B, width);
      const Dropout mask =
          Dropout(desc.dropout, desc.dropout_key, desc.dropout_key_at, static_cast<uint32_t>(l)).read();
      for (int64_t i = 0; i < row_count_; ++i) {
        const int64_t r = rows_.row(i), b = f_.scratch_.order.batch[r], length = f_.scratch_.order.length[r];
        for (int64_t t = share_of_steps(); t < length; t += sharers())
          dropout_elements(mask, at<T>(below, t, b), at<T>(dropped, t, b), width, (t * desc.B + b) * width);
      }
      f_.plan_.direction_groups > 1 ? barriers_.all() : barriers_.row_group();
      return dropped;
    }

    void direction(int l, int d, const Array3& input) {
      const SequenceDesc& desc = f_.desc_;
      const int index = l * desc.directions + d;
      const PackedLayer<E> weights = packed_layer<Cell, E>(desc, f_.args_.packed, index);
      const Walk walk{f_.scratch_.order, f_.args_.resets, f_.args_.resets_stride0, f_.args_.resets_stride1, d == 1};
      for (int64_t s = 0; s < steps_; s += f_.plan_.chunk_steps) {
        const int64_t end = s + f_.plan_.chunk_steps < steps_ ? s + f_.plan_.chunk_steps : steps_;
        input_part(weights, walk, input, f_.size_.inputs(l), s, end);
        T* pre = pre_;
        for (int64_t step_at = s; step_at < end; ++step_at) {
          const int64_t active = rows_.count(f_.scratch_.order.active[step_at]);
          step(l, d, weights, walk, step_at, active, pre);
          pre += active * pre_stride_;
          barriers_.row_group();
        }
      }
    }

    // pre[row] = x W + b_ih for the active rows of steps [s, end), row after row.
    void input_part(const PackedLayer<E>& weights, const Walk& walk, const Array3& input, int64_t K, int64_t s,
                    int64_t end) {
      int64_t rows = 0;
      for (; s < end; ++s) {
        const int64_t active = rows_.count(walk.order.active[s]);
        for (int64_t i = 0; i < active; ++i) {
          const int64_t r = rows_.row(i);
          operand_[rows++] = at<T>(input, walk.time(s, r), walk.order.batch[r]);
        }
      }
      multiply<E, NV>(operand_, rows, weights.w, panels_, K, first_panel_, last_panel_, memory_,
                      [&](int64_t begin, int64_t row, int tall, int wide, const auto* tile) {
                        const T* bias = weights.bias_x + begin * N;
                        T* to = pre_ + row * pre_stride_ + (begin - first_vector_) * N;
                        for (int r = 0; r < tall; ++r, to += pre_stride_, tile += wide * N)
                          for (int v = 0; v < wide; ++v)
                            L::store(to + v * N, L::load(tile + v * N) + L::load(bias + v * N));
                      });
    }

    void step(int l, int d, const PackedLayer<E>& weights, const Walk& walk, int64_t s, int64_t active, const T* pre) {
      gather_rows(l, d, walk, s, active);
      multiply<E, NV>(operand_, active, weights.r, panels_, f_.desc_.H, first_panel_, last_panel_, memory_,
                      [&](int64_t begin, int64_t row, int tall, int wide, const auto* tile)
                          __attribute__((always_inline)) {
                            const T* x = pre + row * pre_stride_ + (begin - first_vector_) * N;
                            for (int r = 0; r < tall; ++r, x += pre_stride_, tile += wide * N)
                              finish(row_[row + r], begin, wide, x, tile, weights.bias_h + begin * N, weights.units);
                          });
    }

    // The cell for one row and the units of one panel: x and h hold its input and recurrent parts.
    FR_INLINE void finish(const Row& row, int64_t begin, int wide, const T* x, const T* h, const T* bias_h,
                          const T* units) const {
      static_assert(U == 1 || G == 1,
                    "a panel has the gates of one vector of units, or vectors of units with one gate");
      for (int u = 0; u < (U == 1 ? 1 : wide); ++u, x += N, h += N, bias_h += N) {
        const int64_t unit = (begin / G + u) * N, H = f_.desc_.H;
        const int count = static_cast<int>(H - unit < N ? H - unit : N);
        const auto load = [&](const T* from) { return count == N ? L::load(from) : L::load(from, count); };
        const auto load_units = [&](const T* from) { return load(from + unit); };
        const auto store_units = [&](T* to, V v) {
          count == N ? L::store(to + unit, v) : L::store(to + unit, v, count);
        };
        V from_x[G], from_h[G], own[Cell::unit_values + 1], tape[Cell::tape_blocks + 1], carry;
        for (int g = 0; g < G; ++g) {
          from_x[g] = load(x + g * count);
          from_h[g] = load(h + g * count) + load(bias_h + g * count);
        }
        for (int k = 0; k < Cell::unit_values; ++k) own[k] = load_units(units + k * H);
        const V out = forward_of<Cell>(from_x, from_h, own, load_units(row.carry_prev), carry, tape);
        store_units(row.h, out);
        if (row.y) store_units(row.y, out);
        if (row.hn) store_units(row.hn, out);
        if (Cell::separate_carry) {
          store_units(row.carry, carry);
          if (row.cn) store_units(row.cn, carry);
        }
        if (row.gates)
          for (int k = 0; k < Cell::tape_blocks; ++k) store_units(row.gates + k * H, tape[k]);
      }
    }

    void gather_rows(int l, int d, const Walk& walk, int64_t s, int64_t active) {
      const SequenceDesc& desc = f_.desc_;
      const int index = l * desc.directions + d;
      const int64_t H = desc.H;
      Array3 h = f_.hidden(l);
      h.data = static_cast<T*>(h.data) + d * H;
      const TapeLayer<T> tape = desc.train ? tape_layer<Cell, T>(desc, f_.args_.tape, index) : TapeLayer<T>{};
      const bool copy_y = desc.train && l == desc.layers - 1;
      const Array3 cells =
          desc.train ? dense(tape.c, desc.B, H) : Array3{f_.scratch_.carry + position_.direction * desc.B * H, 0, H};
      for (int64_t i = 0; i < active; ++i) {
        const int64_t r = rows_.row(i), b = walk.order.batch[r], t = walk.time(s, r);
        Row& row = row_[i];
        operand_[i] = state_before(walk, s, r, f_.args_.h0, index, h, f_.scratch_.zeros);
        row.h = at<T>(h, t, b);
        row.y = copy_y ? at<T>(f_.args_.y, t, b) + d * H : nullptr;
        row.hn = walk.last(s, r) ? at<T>(f_.args_.hn, index, b) : nullptr;
        row.gates = tape.gates ? tape.gates + (t * desc.B + b) * Cell::tape_blocks * H : nullptr;
        if (Cell::separate_carry) {
          row.carry_prev = state_before(walk, s, r, f_.args_.c0, index, cells, f_.scratch_.zeros);
          row.carry = at<T>(cells, t, b);
          row.cn = walk.last(s, r) ? at<T>(f_.args_.cn, index, b) : nullptr;
        } else {
          row.carry_prev = operand_[i];
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
          for (int64_t k = 0; k < desc.directions * desc.H; ++k) y[k] = T(0);
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
          copy_row(at<T>(f_.args_.hn, index, b), at_or_null<T>(f_.args_.h0, index, b), desc.H);
          if (Cell::separate_carry)
            copy_row(at<T>(f_.args_.cn, index, b), at_or_null<T>(f_.args_.c0, index, b), desc.H);
        }
    }

    const Forward& f_;
    const GridPosition position_;
    const Barriers barriers_;
    const RowGroup rows_;
    const int64_t unit_group_;
    const Panels panels_;
    const int64_t first_panel_, last_panel_, first_vector_, pre_stride_;
    T* const pre_;
    typename E::Operand* const memory_;  // what the engine packs rows into
    const T** const operand_;
    Row* const row_;
    const int64_t row_count_, steps_;
  };

  const SequenceDesc& desc_;
  const ForwardArgs& args_;
  const Plan& plan_;
  const StackSize<Cell, E> size_;
  Team* const team_;
  const Scratch<E> scratch_;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
