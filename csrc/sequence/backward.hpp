// The time loop of back-propagation through time, for any cell; the grid of threads and the rows are forward's.
//
// Steps run from the last to the first, in chunks. Per step: dh = dgates(next step) R, whose tile's epilogue adds dy
// and the carry's gradient and turns them into this step's dgates. Per chunk, while its dgates are in cache: dW, dR, db
// and dX. Weight gradients sum over (step, row) pairs in an order that only sizes fix; the whole team meets once per
// chunk, and two dgates buffers taken in turn make that one barrier enough.
#pragma once

#include "layers/philox.hpp"
#include "sequence/gradients.hpp"
#include "sequence/plan.hpp"
#include "sequence/rows.hpp"
#include "simd/math.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class Cell, class E>
class Backward {
  using T = typename E::Storage;
  using L = Lanes<typename E::Accumulator>;
  using V = typename L::V;
  static constexpr int N = L::N, G = Cell::gates, NV = EngineOf<E>::vectors, blocks = Cell::dgate_blocks;

 public:
  Backward(const SequenceDesc& desc, const BackwardArgs& args, const Plan& plan, void* workspace, Team* team)
      : desc_(desc),
        args_(args),
        plan_(plan),
        size_(desc),
        team_(team),
        scratch_(scratch<Cell, E>(desc, plan, true, workspace)),
        group_threads_(plan.row_groups * plan.unit_groups) {
    order_rows(args.lengths, desc.T, desc.B, scratch_.order);
    for (int i = 0; i < barriers_of(plan); ++i) scratch_.barrier[i] = Barrier{};
    for (int64_t i = 0; i < scratch_.zeros_count; ++i) scratch_.zeros[i] = T(0);
  }

  void run() {
    parallel_products<EngineOf<E>>(team_, threads_of(plan_), [&](int32_t thread) { Thread(*this, thread).run(); });
  }

 private:
  using Row = BackwardRow<T>;

  // One direction of one layer: its weights, its tape, and its gradients' way in and out.
  struct Pass {
    int layer, direction, index;
    PackedLayer<E> weights;
    LayerGrads grads;
    Walk walk;
    Array3 input, h, c, dy, dx;  // h, c: as the tape keeps them, offset to the direction; dy likewise
    const T* gates;
    int64_t inputs;
  };

  Array3 tape_hidden(int l) const {
    return dense(tape_layer<Cell, T>(desc_, args_.tape, l * desc_.directions).h, desc_.B, desc_.directions * desc_.H);
  }

  // Where the gradient of layer l's input goes.
  Array3 dx_of(int l) const {
    return l == 0 ? args_.dx : dense(scratch_.hidden[(l - 1) % 2], desc_.B, desc_.directions * desc_.H);
  }

  Pass make_pass(int l, int d, const Array3& input) const {
    const int index = l * desc_.directions + d;
    const int64_t B = desc_.B, H = desc_.H, width = desc_.directions * H;
    const TapeLayer<T> tape = tape_layer<Cell, T>(desc_, args_.tape, index);
    Array3 dy = l == desc_.layers - 1 ? args_.dy : dense(scratch_.hidden[l % 2], B, width);
    if (dy.data) dy.data = static_cast<T*>(dy.data) + d * H;
    return Pass{l,
                d,
                index,
                packed_layer<Cell, E>(desc_, args_.packed, index),
                args_.dweights[index],
                Walk{scratch_.order, args_.resets, args_.resets_stride0, args_.resets_stride1, d == 1},
                input,
                dense(tape.h, B, width),
                dense(tape.c, B, H),
                dy,
                d == 1 && plan_.direction_groups > 1 && dx_of(l).data ? dense(scratch_.dx_reverse, B, size_.inputs(l))
                                                                      : dx_of(l),
                tape.gates,
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
          table_(all.scratch_.pointers + thread * all.scratch_.tables * all.scratch_.pointer_rows),
          row_(all.scratch_.backward_rows + thread * all.scratch_.group_rows),
          memory_(all.scratch_.operands + thread * all.scratch_.operand_elements),
          carry_(all.scratch_.carry + position_.direction * all.desc_.B * all.desc_.H),
          row_count_(rows_.count(all.desc_.B)),
          panels_(plain_panels<E>(all.desc_.H)),
          first_panel_(share(panels_.count, all.plan_.unit_groups, unit_group_)),
          last_panel_(share(panels_.count, all.plan_.unit_groups, unit_group_ + 1)) {}

    void run() {
      const SequenceDesc& desc = f_.desc_;
      for (int l = desc.layers - 1; l >= 0; --l) {
        const Array3 input = l == 0 ? f_.args_.x : layer_input(l);
        for (int d = 0; d < desc.directions; ++d)
          if (f_.plan_.direction_groups == 1 || d == position_.direction) direction(f_.make_pass(l, d, input));
        if (f_.plan_.direction_groups > 1) add_reverse(l);
        if (l > 0) {
          barriers_.all();
          if (desc.dropout > 0) mask_rows(l, dense(f_.scratch_.hidden[(l - 1) % 2], desc.B, desc.directions * desc.H));
        }
      }
      if (f_.args_.lengths && f_.args_.dx.data) clear_padding();
      pass_empty_rows();
    }

   private:
    // The steps of a row are shared out among the threads that work on it.
    int64_t sharers() const { return f_.plan_.direction_groups * f_.plan_.unit_groups; }
    int64_t share_of_steps() const { return position_.direction * f_.plan_.unit_groups + unit_group_; }

    // from -> to through layer l's dropout, my rows and my share of the steps. All wait, for the result is read by all.
    void mask_rows(int l, const Array3& from, const Array3& to) const {
      const SequenceDesc& desc = f_.desc_;
      const int64_t width = desc.directions * desc.H;
      const Dropout mask =
          Dropout(desc.dropout, desc.dropout_key, desc.dropout_key_at, static_cast<uint32_t>(l)).read();
      for (int64_t i = 0; i < row_count_; ++i) {
        const int64_t r = rows_.row(i), b = f_.scratch_.order.batch[r], length = f_.scratch_.order.length[r];
        for (int64_t t = share_of_steps(); t < length; t += sharers())
          dropout_elements(mask, at<T>(from, t, b), at<T>(to, t, b), width, (t * desc.B + b) * width);
      }
      barriers_.all();
    }
    void mask_rows(int l, const Array3& in_place) const { mask_rows(l, in_place, in_place); }

    Array3 layer_input(int l) const {
      const Array3 below = f_.tape_hidden(l - 1);
      if (f_.desc_.dropout <= 0) return below;
      const Array3 dropped = dense(f_.scratch_.dropped, f_.desc_.B, f_.desc_.directions * f_.desc_.H);
      mask_rows(l, below, dropped);
      return dropped;
    }

    void direction(const Pass& pass) {
      const int64_t steps = f_.desc_.B > 0 ? f_.scratch_.order.length[0] : 0, chunk = f_.plan_.chunk_steps;
      const int64_t chunks = (steps + chunk - 1) / chunk;
      // Buffers alternate over directions and layers too: the last chunk written was the one with (0 + turn_) % 2.
      turn_ = (turn_ + chunks) % 2;
      for (int64_t c = chunks - 1; c >= 0; --c) {
        const int64_t first = c * chunk, end = first + chunk < steps ? first + chunk : steps;
        for (int64_t s = end - 1; s >= first; --s) {
          step(pass, s);
          barriers_.row_group();
        }
        barriers_.direction();
        if (c == 0) initial_state(pass);
        chunk_gradients(pass, first, end);
      }
    }

    T* dgates(int64_t s, int64_t r) const {
      const int64_t chunk = s / f_.plan_.chunk_steps, at_step = s % f_.plan_.chunk_steps;
      const int64_t row = (position_.direction * f_.plan_.chunk_steps + at_step) * f_.desc_.B + r;
      return f_.scratch_.dgates[(chunk + turn_) % 2] + row * blocks * f_.desc_.H;
    }

    // The h part of the next step's dgates, or zeros where the link to it is cut.
    const T* dgates_after(const Walk& walk, int64_t s, int64_t r) const {
      return walk.cut(s + 1, r) ? f_.scratch_.zeros : dgates(s + 1, r) + Cell::h_first * f_.desc_.H;
    }

    void step(const Pass& pass, int64_t s) {
      const RowOrder& order = f_.scratch_.order;
      const int64_t active = rows_.count(order.active[s]), continuing = rows_.count(order.active[s + 1]);
      gather_rows(pass, s, active, continuing);
      multiply<E, NV>(
          table_, continuing, pass.weights.r_back, panels_, G * f_.desc_.H, first_panel_, last_panel_, memory_,
          [&](int64_t begin, int64_t row, int tall, int wide, int64_t part, int64_t parts)
              __attribute__((always_inline)) {
                for (int64_t r = part; r < tall; r += parts)
                  for (int v = 0; v < wide; ++v) prefetch_inputs(row_[row + r], (begin + v) * N);
              },
          [&](int64_t begin, int64_t row, int tall, int wide, const auto* tile) __attribute__((always_inline)) {
            for (int r = 0; r < tall; ++r)
              for (int v = 0; v < wide; ++v, tile += N) finish(pass, row_[row + r], (begin + v) * N, L::load(tile));
          });
      for (int64_t i = continuing; i < active; ++i)
        for (int64_t v = panels_.begin(first_panel_); v < panels_.begin(last_panel_); ++v)
          finish(pass, row_[i], v * N, row_[i].start ? load_units(row_[i].start, v * N) : L::zero());
    }

    int count(int64_t unit) const { return static_cast<int>(f_.desc_.H - unit < N ? f_.desc_.H - unit : N); }
    V load_units(const T* from, int64_t unit) const {
      const int n = count(unit);
      return n == N ? L::load(from + unit) : L::load(from + unit, n);
    }
    void store_units(T* to, int64_t unit, V v) const {
      const int n = count(unit);
      n == N ? L::store(to + unit, v) : L::store(to + unit, v, n);
    }

    // The tape comes from memory: what `finish` will read of it is on its way while the tile's sums are computed.
    FR_INLINE void prefetch_inputs(const Row& row, int64_t unit) const {
      for (int k = 0; k < Cell::tape_blocks; ++k) __builtin_prefetch(row.gates + k * f_.desc_.H + unit);
      __builtin_prefetch(row.carry + unit);
      __builtin_prefetch(row.carry_prev + unit);
      if (row.dy) __builtin_prefetch(row.dy + unit);
    }

    // The cell's backward for one row and one vector of units, `dh` being what arrives from the step after.
    FR_INLINE void finish(const Pass& pass, const Row& row, int64_t unit, V dh) const {
      const int64_t H = f_.desc_.H;
      V tape[Cell::tape_blocks + 1], own[Cell::unit_values + 1], da[blocks];
      for (int k = 0; k < Cell::tape_blocks; ++k) tape[k] = load_units(row.gates + k * H, unit);
      for (int k = 0; k < Cell::unit_values; ++k) own[k] = load_units(pass.weights.units + k * H, unit);
      if (row.dy) dh = load_units(row.dy, unit) + dh;
      const V dcarry = backward_of<Cell>(tape, own, load_units(row.carry_prev, unit), load_units(row.carry, unit), dh,
                                         Cell::carry_gradient ? load_units(row.dcarry, unit) : L::zero(), da);
      for (int k = 0; k < blocks; ++k) store_units(row.dgates + k * H, unit, da[k]);
      if (Cell::carry_gradient) store_units(row.dcarry_prev, unit, dcarry);
    }

    void gather_rows(const Pass& pass, int64_t s, int64_t active, int64_t continuing) {
      const SequenceDesc& desc = f_.desc_;
      const int64_t H = desc.H;
      const T* zeros = f_.scratch_.zeros;
      for (int64_t i = 0; i < active; ++i) {
        const int64_t r = rows_.row(i), b = pass.walk.order.batch[r], t = pass.walk.time(s, r);
        Row& row = row_[i];
        row.dy = at_or_null<T>(pass.dy, t, b);
        row.start = nullptr;
        row.gates = pass.gates + (t * desc.B + b) * Cell::tape_blocks * H;
        row.dgates = dgates(s, r);
        row.dcarry_prev = carry_ + r * H;
        if (Cell::separate_carry) {
          row.carry = at<T>(pass.c, t, b);
          row.carry_prev = state_before(pass.walk, s, r, f_.args_.c0, pass.index, pass.c, zeros);
        } else {
          row.carry = at<T>(pass.h, t, b);
          row.carry_prev = state_before(pass.walk, s, r, f_.args_.h0, pass.index, pass.h, zeros);
        }
        if (i < continuing) {
          table_[i] = dgates_after(pass.walk, s, r);
          row.dcarry = pass.walk.cut(s + 1, r) ? zeros : row.dcarry_prev;
        } else {
          row.start = at_or_null<T>(f_.args_.dhn, pass.index, b);
          const T* dcn = Cell::separate_carry ? at_or_null<T>(f_.args_.dcn, pass.index, b) : nullptr;
          row.dcarry = dcn ? dcn : zeros;
        }
      }
    }

    // dh0 and dc0 from the first step: the same product once more, its epilogue only storing.
    void initial_state(const Pass& pass) {
      const SequenceDesc& desc = f_.desc_;
      const int64_t H = desc.H, active = rows_.count(f_.scratch_.order.active[0]);
      const bool direct = Cell::carry_gradient && !Cell::separate_carry;
      for (int64_t i = 0; i < active; ++i) {
        const int64_t r = rows_.row(i), b = pass.walk.order.batch[r];
        const bool cut = pass.walk.cut(0, r);
        table_[i] = cut ? f_.scratch_.zeros : dgates(0, r) + Cell::h_first * H;
        row_[i].dgates = at_or_null<T>(f_.args_.dh0, pass.index, b);
        row_[i].dcarry_prev = at_or_null<T>(f_.args_.dc0, pass.index, b);
        row_[i].dcarry = cut || !Cell::carry_gradient ? f_.scratch_.zeros : carry_ + r * H;
      }
      if (!f_.args_.dh0.data) return;
      multiply<E, NV>(table_, active, pass.weights.r_back, panels_, G * H, first_panel_, last_panel_, memory_,
                      [&](int64_t begin, int64_t first, int tall, int wide, const auto* tile) {
                        for (int r = 0; r < tall; ++r)
                          for (int v = 0; v < wide; ++v, tile += N) {
                            const Row& row = row_[first + r];
                            const int64_t unit = (begin + v) * N;
                            const V dh = L::load(tile);
                            store_units(row.dgates, unit, direct ? dh + load_units(row.dcarry, unit) : dh);
                            if (Cell::separate_carry && row.dcarry_prev)
                              store_units(row.dcarry_prev, unit, load_units(row.dcarry, unit));
                          }
                      });
    }

    // dW, dR, db and dX of the steps [first, end), shared out over the direction group.
    void chunk_gradients(const Pass& pass, int64_t first, int64_t end) {
      const int64_t H = f_.desc_.H, stride = f_.scratch_.pointer_rows;
      const T **const gate = table_, **const before = gate + stride, **const input = before + stride;
      const auto for_pairs = [&](auto&& visit) {
        int64_t pairs = 0;
        for (int64_t s = end - 1; s >= first; --s)
          for (int64_t r = 0; r < f_.scratch_.order.active[s]; ++r) visit(pairs++, s, r);
        return pairs;
      };
      const auto row = [&](const Array3& array, int64_t s, int64_t r) {
        return at<T>(array, pass.walk.time(s, r), pass.walk.order.batch[r]);
      };
      const ChunkGradients<Cell, E> gradients(H, pass.inputs, pass.weights, pass.grads, thread_, f_.group_threads_,
                                              memory_);
      const int64_t pairs = for_pairs([&](int64_t k, int64_t s, int64_t r) {
        gate[k] = dgates(s, r);
        before[k] = state_before(pass.walk, s, r, f_.args_.h0, pass.index, pass.h, f_.scratch_.zeros);
        input[k] = row(pass.input, s, r);
      });
      gradients.weights(gate, before, input, pairs);
      if (!pass.dx.data) return;
      T** const dx = const_cast<T**>(input);
      for_pairs([&](int64_t k, int64_t s, int64_t r) {
        gate[k] += Cell::x_first * H;
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
          T* const to = at<T>(dx, t, b);
          const T* const from = at<T>(reverse, t, b);
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
          if (f_.args_.dh0.data) copy_row(at<T>(f_.args_.dh0, index, b), at_or_null<T>(f_.args_.dhn, index, b), desc.H);
          if (Cell::separate_carry && f_.args_.dc0.data)
            copy_row(at<T>(f_.args_.dc0, index, b), at_or_null<T>(f_.args_.dcn, index, b), desc.H);
        }
    }

    const Backward& f_;
    const GridPosition position_;
    const Barriers barriers_;
    const int32_t thread_;  // in its direction group
    const RowGroup rows_;
    const int64_t unit_group_;
    const T** const table_;
    Row* const row_;
    typename E::Operand* const memory_;  // what the engine packs rows and dgates into
    T* const carry_;
    const int64_t row_count_;
    const Panels panels_;
    const int64_t first_panel_, last_panel_;
    int64_t turn_ = 0;
  };

  const SequenceDesc& desc_;
  const BackwardArgs& args_;
  const Plan& plan_;
  const StackSize<Cell, E> size_;
  Team* const team_;
  const Scratch<E> scratch_;
  const int32_t group_threads_;  // of a direction group
};

}  // namespace fusedrnn::FUSEDRNN_ISA
