// Weights from PyTorch's layout into the panels that forward and backward read (layout.hpp: PackedLayer).
#pragma once

#include "gemm/parallel.hpp"
#include "sequence/layout.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// Gate-interleaved panels (layout.hpp: PanelShape) of a weight (G * H, K). The same with K = 1 packs a bias; a null
// source packs zeros.
template <class Cell, class T>
void pack_gates(T* packed, const T* weight, int64_t ld, int64_t H, int64_t K, int64_t first, int64_t last) {
  constexpr int N = Lanes<T>::N, G = Cell::gates;
  const Panels panels = gate_panels<Cell, T>(H);
  for (int64_t p = first; p < last; ++p) {
    const int64_t begin = panels.begin(p), wide = panels.wide(p);
    for (int64_t v = 0; v < wide; ++v) {
      const int64_t first_unit = (begin + v) / G * N, units = H - first_unit < N ? H - first_unit : N;
      int64_t gate = v % G * N / units, unit = v % G * N % units;
      pack_rows(packed + begin * N * K + v * N, wide * N, K, [&](int) -> const T* {
        const T* const row = weight && gate < G ? weight + (gate * H + first_unit + unit) * ld : nullptr;
        if (++unit == units) unit = 0, ++gate;
        return row;
      });
    }
  }
}

// Plain panels for a product with rows of dgates: k runs over the blocks of one part of the row, `gate_of(block)` says
// which gate's rows of the weight they meet.
template <class Cell, class T, class GateOf>
void pack_back(T* packed, const T* weight, int64_t ld, int64_t H, int64_t columns, const Panels& panels, int64_t first,
               int64_t last, GateOf&& gate_of) {
  constexpr int N = Lanes<T>::N;
  const int64_t K = Cell::gates * H;
  // Rows of the weight outside, panels inside: a row is read once, from end to end.
  constexpr int64_t kRows = 16;
  for (int64_t row = 0; row < K; row += kRows) {
    const int64_t rows = K - row < kRows ? K - row : kRows;
    for (int64_t p = first; p < last; ++p) {
      const int64_t begin = panels.begin(p), wide = panels.wide(p);
      if (wide > kBackVectors) __builtin_unreachable();  // a loop known to be short is a fifth faster
      for (int64_t k = row; k < row + rows; ++k) {
        const T* from = weight + (gate_of(static_cast<int>(k / H)) * H + k % H) * ld + begin * N;
        T* to = packed + (begin * K + k * wide) * N;
        for (int64_t v = 0; v < wide; ++v) {
          const int64_t count = columns - (begin + v) * N;
          Lanes<T>::store(to + v * N, count < N ? Lanes<T>::load(from + v * N, static_cast<int>(count))
                                                : Lanes<T>::load(from + v * N));
        }
      }
    }
  }
}

template <class Cell, class T>
void pack_stack(const SequenceDesc& desc, const LayerWeights* weights, void* packed, Team* team) {
  const StackSize<Cell, T> size(desc);
  const int64_t elements = int64_t(Cell::gates) * desc.H * (desc.H + desc.I) * size.stacks();
  const int32_t offered = desc.threads < team->size ? desc.threads : team->size;
  const int32_t threads = elements < 65536 ? 1 : offered;
  parallel(team, threads, [&](int32_t thread) {
    for (int i = 0; i < size.stacks(); ++i) {
      const PackedLayer<T> to = packed_layer<Cell, T>(desc, packed, i);
      const LayerWeights& from = weights[i];
      const int64_t H = desc.H, inputs = size.inputs(i / desc.directions);
      const int64_t panels = size.gates().count;
      const int64_t first = share(panels, threads, thread), last = share(panels, threads, thread + 1);
      const auto data = [&](int32_t which) { return static_cast<const T*>(from.weight[which].data); };
      const int64_t ld_ih = from.weight[kWeightIh].row_stride, ld_hh = from.weight[kWeightHh].row_stride;
      pack_gates<Cell>(to.w, data(kWeightIh), ld_ih, H, inputs, first, last);
      pack_gates<Cell>(to.r, data(kWeightHh), ld_hh, H, H, first, last);
      pack_gates<Cell>(to.bias_x, data(kBiasIh), 1, H, 1, first, last);
      pack_gates<Cell>(to.bias_h, data(kBiasHh), 1, H, 1, first, last);
      T* own = to.units;
      for (int32_t w = kGateWeights; w < Cell::weights.count && thread == 0; ++w)
        for (int64_t k = 0; k < Cell::weights.spec[w].blocks * H; ++k) *own++ = data(w)[k];
      const Panels columns = even_panels<kBackVectors>(vectors_of<T>(inputs));
      pack_back<Cell>(to.w_back, data(kWeightIh), ld_ih, H, inputs, columns, share(columns.count, threads, thread),
                      share(columns.count, threads, thread + 1), [](int k) { return Cell::x_gate(k); });
      const Panels units = even_panels<kBackVectors>(size.unit_vectors);
      pack_back<Cell>(to.r_back, data(kWeightHh), ld_hh, H, H, units, share(units.count, threads, thread),
                      share(units.count, threads, thread + 1), [](int k) { return Cell::h_gate(k); });
    }
  });
}

}  // namespace fusedrnn::FUSEDRNN_ISA
