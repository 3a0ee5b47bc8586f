// Weights from PyTorch's layout into the panels that forward and backward read (layout.hpp: PackedLayer).
#pragma once

#include "gemm/parallel.hpp"
#include "sequence/masks.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// Which row of a weight (G * H, K) each lane of a vector of gates stands for (layout.hpp: panel_units), lane by lane.
template <int N>
class GateRows {
 public:
  GateRows(int64_t gates, int64_t H, int64_t vector)
      : gates_(gates),
        H_(H),
        first_unit_(vector / gates * N),
        units_(H - first_unit_ < N ? H - first_unit_ : N),
        gate_(vector % gates * N / units_),
        unit_(vector % gates * N % units_) {}

  // The next lane's row; -1 where the lane is padding.
  int64_t next() {
    const int64_t row = gate_ < gates_ ? gate_ * H_ + first_unit_ + unit_ : -1;
    if (++unit_ == units_) unit_ = 0, ++gate_;
    return row;
  }

 private:
  const int64_t gates_, H_, first_unit_, units_;
  int64_t gate_, unit_;
};

// Gate-interleaved panels first <= p < last of a weight (G * H, K).
template <class E>
void pack_gates(const EngineOf<E>& engine, OperandOf<E>* packed, const typename E::Storage* weight, int64_t ld,
                int gates, int64_t H, int64_t K, const Panels& panels, int64_t first, int64_t last) {
  constexpr int N = Lanes<typename E::Accumulator>::N;
  for (int64_t p = first; p < last; ++p) {
    const int64_t begin = panels.begin(p);
    const int wide = panels.wide(p);
    for (int v = 0; v < wide; ++v) {
      GateRows<N> rows(gates, H, begin + v);
      engine.pack_columns(packed + engine.panel_elements(begin, K), wide, v, K, [&](int) {
        const int64_t row = rows.next();
        return row < 0 ? nullptr : weight + row * ld;
      });
    }
  }
}

// A bias (G * H) as the columns of those panels; zeros where there is none.
template <class T>
void pack_bias(T* packed, const T* bias, int gates, int64_t H, const Panels& panels, int64_t first, int64_t last) {
  constexpr int N = Lanes<T>::N;
  for (int64_t vector = panels.begin(first); vector < panels.begin(last); ++vector) {
    GateRows<N> rows(gates, H, vector);
    for (int lane = 0; lane < N; ++lane) {
      const int64_t row = rows.next();
      packed[vector * N + lane] = bias && row >= 0 ? bias[row] : T(0);
    }
  }
}

// What is added to the gates of a cell that normalises, its units' biases and its own: all that has their gradient.
template <class T>
void pack_shift(const CellFacts& cell, int64_t H, const LayerWeights& from, T* shift) {
  for (int64_t k = 0; k < cell.gates * H; ++k) {
    double sum = 0;
    int32_t value = 0;
    for (int32_t w = kBiasIh; w < cell.weights.count; ++w) {
      const bool added = w < kGateWeights || cell.unit_block[value] == cell.x_bias[0];
      const T* const bias = static_cast<const T*>(from.weight[w].data);
      if (added && bias) sum += static_cast<double>(bias[k]);
      if (w >= kGateWeights) value += cell.weights.spec[w].blocks;
    }
    shift[k] = static_cast<T>(sum);
  }
}

// Plain panels for a product with rows of dgates: k runs over the `gates` blocks of one part of the row, the rows of
// weight that block b meets are those of gate_of[b].
template <class E>
void pack_back(const EngineOf<E>& engine, OperandOf<E>* packed, const typename E::Storage* weight, int64_t ld,
               int gates, const int32_t* gate_of, int64_t H, int64_t columns, const Panels& panels, int64_t first,
               int64_t last) {
  constexpr int N = Lanes<typename E::Accumulator>::N;
  constexpr int64_t strip = EngineOf<E>::pack_strip;
  const int64_t K = gates * H;
  // Rows of the weight outside, panels inside: a row is read once, from end to end.
  for (int64_t row = 0; row < K; row += strip)
    for (int64_t p = first; p < last; ++p) {
      const int64_t begin = panels.begin(p);
      engine.pack_rows(packed + engine.panel_elements(begin, K), panels.wide(p), K, row,
                       K - row < strip ? K : row + strip, columns - begin * N,
                       [&](int64_t k) { return weight + (gate_of[k / H] * H + k % H) * ld + begin * N; });
    }
}

template <class E>
void pack_stack(const SequenceDesc& desc, const LayerWeights* weights, void* packed, Team* team) {
  using T = typename E::Storage;
  const StackSize<E> size(desc);
  const CellFacts& cell = size.cell;
  const EngineOf<E> engine = engine_of<E>(desc.precision);
  const int64_t elements = int64_t(cell.gates) * desc.H * (size.state() + desc.I) * size.stacks();
  const int32_t offered = desc.threads < team->size ? desc.threads : team->size;
  const int32_t threads = elements < 65536 ? 1 : offered;
  if (desc.weight_dropout > 0)
    parallel(team, threads, [&](int32_t thread) {
      for (int i = 0; i < size.stacks(); ++i) {
        const WeightView& from = weights[i].weight[kWeightHh];
        const int64_t rows = cell.gates * desc.H;
        drop_weight<T>(desc, i, static_cast<const T*>(from.data), from.row_stride,
                       packed_layer<E>(desc, packed, i).dropped, share(rows, threads, thread),
                       share(rows, threads, thread + 1));
      }
    });
  parallel(team, threads, [&](int32_t thread) {
    for (int i = 0; i < size.stacks(); ++i) {
      const PackedLayer<E> to = packed_layer<E>(desc, packed, i);
      const LayerWeights& from = weights[i];
      const int64_t H = desc.H, P = size.state(), inputs = size.inputs(i / desc.directions);
      const Panels gates = size.gates(), columns = plain_panels<E>(inputs), states = plain_panels<E>(P);
      const auto first = [&](const Panels& panels) { return share(panels.count, threads, thread); };
      const auto last = [&](const Panels& panels) { return share(panels.count, threads, thread + 1); };
      const auto data = [&](int32_t which) { return static_cast<const T*>(from.weight[which].data); };
      const bool drops = desc.weight_dropout > 0;
      const T* const hh = drops ? to.dropped : data(kWeightHh);
      const int64_t ld_ih = from.weight[kWeightIh].row_stride, ld_hh = drops ? P : from.weight[kWeightHh].row_stride;
      pack_gates<E>(engine, to.w, data(kWeightIh), ld_ih, cell.gates, H, inputs, gates, first(gates), last(gates));
      const int32_t open = size.open_gates(), gated = cell.gated_gates;
      const Panels open_gates = size.open(), gated_gates = size.gated();
      pack_gates<E>(engine, to.r, hh, ld_hh, open, H, P, open_gates, first(open_gates), last(open_gates));
      if (gated > 0)
        pack_gates<E>(engine, to.r_gated, hh + open * H * ld_hh, ld_hh, gated, H, H, gated_gates, first(gated_gates),
                      last(gated_gates));
      const auto bias = [&](int32_t which) { return cell.normalises ? nullptr : data(which); };
      pack_bias(to.bias_x, bias(kBiasIh), cell.gates, H, gates, first(gates), last(gates));
      pack_bias(to.bias_h, bias(kBiasHh), cell.gates, H, gates, first(gates), last(gates));
      T* own = to.units;
      for (int32_t w = kGateWeights; w < cell.weights.count && thread == 0; ++w)
        if (cell.weights.spec[w].role == WeightRole::per_unit)
          for (int64_t k = 0; k < cell.weights.spec[w].blocks * H; ++k) *own++ = data(w)[k];
      if (cell.normalises && thread == 0) pack_shift(cell, H, from, to.shift);
      pack_back<E>(engine, to.w_back, data(kWeightIh), ld_ih, cell.gates, cell.x_gate, H, inputs, columns,
                   first(columns), last(columns));
      pack_back<E>(engine, to.r_back, hh, ld_hh, open, cell.h_gate, H, P, states, first(states), last(states));
      if (gated > 0)
        pack_back<E>(engine, to.r_gated_back, hh, ld_hh, gated, cell.h_gate + open, H, H, states, first(states),
                     last(states));
      if (cell.projection >= 0) {
        const WeightView& hr = from.weight[cell.projection];
        const Panels units = plain_panels<E>(H);
        const int32_t one_block[] = {0};
        pack_gates<E>(engine, to.project, data(cell.projection), hr.row_stride, 1, P, H, states, first(states),
                      last(states));
        pack_back<E>(engine, to.project_back, data(cell.projection), hr.row_stride, 1, one_block, P, H, units,
                     first(units), last(units));
      }
    }
  });
}

}  // namespace fusedrnn::FUSEDRNN_ISA
