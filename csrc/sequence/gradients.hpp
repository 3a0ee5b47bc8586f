// dW, dR, db and dX of a chunk of steps, once its dgates are there: products over all (step, row) pairs of the chunk.
//
// Weight gradients are shared out by hidden units, all gates of a unit to one thread, which packs its columns of
// dgates once for dR and dW; dX by columns or by rows. A sum is never divided. The order of the pairs, latest step
// first and rows in order of length, depends on sizes and lengths alone.
#pragma once

#include "sequence/layout.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// Part `thread` of `threads` of the gradients of one layer and direction.
template <class Cell, class E>
class ChunkGradients {
  using T = typename E::Storage;
  using Operand = typename E::Operand;
  using OuterA = typename EngineOf<E>::OuterA;
  using L = Lanes<typename E::Accumulator>;
  static constexpr int N = L::N, G = Cell::gates, NV = EngineOf<E>::vectors;
  static constexpr int blocks = Cell::dgate_blocks - Cell::unit_values, all_blocks = Cell::dgate_blocks;

 public:
  // `memory` is what the engine packs into: of scratch's `operands`.
  ChunkGradients(int64_t H, int64_t inputs, const PackedLayer<E>& weights, const LayerGrads& grads, int32_t thread,
                 int32_t threads, Operand* memory)
      : H_(H),
        inputs_(inputs),
        weights_(weights),
        grads_(grads),
        thread_(thread),
        threads_(threads),
        memory_(memory),
        first_(share(H, threads, thread)),
        last_(share(H, threads, thread + 1)) {}

  // dR += (h part of dgates)^T states before the step, dW += (x part)^T inputs, db += dgates. Pair k is the row of
  // dgates gate[k], of states before[k] and of the layer's input input[k].
  void weights(const T* const* gate, const T* const* before, const T* const* input, int64_t pairs) const {
    if (first_ == last_) return;
    OuterA tiles[blocks];
    for (int block = 0; block < blocks; ++block) {
      tiles[block] = OuterA{block * H_ + first_, block * H_ + last_,
                            memory_ + outer_panel<E> + block * OuterA::elements(last_ - first_)};
      sum_rows<T>(gate, pairs, tiles[block].first, tiles[block].last,
                  bias(grads_.weight[kBiasIh], block, Cell::x_first, Cell::x_gate(block - Cell::x_first)),
                  bias(grads_.weight[kBiasHh], block, Cell::h_first, Cell::h_gate(block - Cell::h_first)));
    }
    for (int32_t w = kGateWeights, block = blocks; w < Cell::weights.count; ++w)
      for (int i = 0; i < Cell::weights.spec[w].blocks; ++i, ++block)
        if (T* const sum = static_cast<T*>(grads_.weight[w]))
          sum_rows<T>(gate, pairs, block * H_ + first_, block * H_ + last_, sum + (i - block) * H_);
    constexpr int64_t outer_block = EngineOf<E>::outer_block;
    for (int64_t k = 0; k < pairs; k += outer_block) {
      const int64_t count = pairs - k < outer_block ? pairs - k : outer_block;
      for (int block = 0; block < blocks; ++block) tiles[block].pack(gate + k, count, all_blocks * H_);
      part(before + k, count, H_, static_cast<T*>(grads_.weight[kWeightHh]), tiles + Cell::h_first,
           [](int b) { return Cell::h_gate(b); });
      part(input + k, count, inputs_, static_cast<T*>(grads_.weight[kWeightIh]), tiles + Cell::x_first,
           [](int b) { return Cell::x_gate(b); });
    }
  }

  // dx[k] = (x part of dgates) W, gate[k] pointing to that part; or with `add` plus what is there.
  void inputs(const T* const* gate, T* const* dx, int64_t pairs, bool add) const {
    const Panels panels = plain_panels<E>(inputs_);
    const bool by_panel = panels.count >= 2 * threads_;
    const int64_t row_first = by_panel ? 0 : share(pairs, threads_, thread_);
    const int64_t row_last = by_panel ? pairs : share(pairs, threads_, thread_ + 1);
    const int64_t panel_first = by_panel ? share(panels.count, threads_, thread_) : 0;
    const int64_t panel_last = by_panel ? share(panels.count, threads_, thread_ + 1) : panels.count;
    multiply<E, NV>(gate + row_first, row_last - row_first, weights_.w_back, panels, G * H_, panel_first, panel_last,
                    memory_, [&](int64_t begin, int64_t row, int tall, int wide, const auto* tile) {
                      for (int r = 0; r < tall; ++r)
                        for (int v = 0; v < wide; ++v, tile += N) {
                          const int64_t n = (begin + v) * N;
                          const int left = static_cast<int>(inputs_ - n < N ? inputs_ - n : N);
                          T* to = dx[row_first + row + r] + n;
                          const auto sum = L::load(tile);
                          L::store(to, add ? L::load(to, left) + sum : sum, left);
                        }
                    });
  }

 private:
  // The gradient of a bias whose part of dgates begins at block `part_first`, moved so that columns of dgates index it;
  // null where the block is not in the part.
  T* bias(void* grad, int block, int part_first, int gate) const {
    const bool in_part = block >= part_first && block < part_first + G;
    return grad && in_part ? static_cast<T*>(grad) + (gate - block) * H_ : nullptr;
  }

  // weight (G * H, columns) += (a part of dgates)^T operand, my units of each of its G blocks.
  template <class GateOf>
  void part(const T* const* operand, int64_t count, int64_t columns, T* weight, const OuterA* tiles,
            const GateOf& gate_of) const {
    if (!weight) return;
    for_outer_panels<E>(operand, count, columns, memory_, [&](int64_t n, int wide, int64_t left) {
      for (int b = 0; b < G; ++b)
        tiles[b].multiply(count, memory_, wide, left, weight + (gate_of(b) * H_ + first_) * columns + n, columns,
                          false);
    });
  }

  const int64_t H_, inputs_;
  const PackedLayer<E>& weights_;
  const LayerGrads& grads_;
  const int32_t thread_, threads_;
  Operand* const memory_;
  const int64_t first_, last_;  // hidden units
};

}  // namespace fusedrnn::FUSEDRNN_ISA
