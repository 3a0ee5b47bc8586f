// dW, dR, db and dX of a chunk of steps, once its dgates are there: products over all (step, row) pairs of the chunk.
// db, and gradients of weights of units, are sums over all chunks, which go to their places behind the last.
//
// Weight gradients are shared out by hidden units, all gates of a unit to one thread, which packs its columns of
// dgates once for dR and dW; dX by columns or by rows. A sum is never divided. The order of the pairs, latest step
// first and rows in order of length, depends on sizes and lengths alone.
#pragma once

#include "sequence/layout.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// The sums of columns of dgates of a layer and direction, `index` of many in memory.
template <class T>
ColumnSums<T> column_sums(T* memory, int64_t index, int64_t columns) {
  return {memory + 2 * index * columns, memory + (2 * index + 1) * columns};
}

// Gradients of biases and of weights of units += the sums of what they are added to, units first <= unit < last.
template <class T>
void add_sums(const CellFacts& cell, int64_t H, const LayerGrads& grads, const ColumnSums<T>& sums, int64_t first,
              int64_t last) {
  const auto add = [&](int32_t weight, int32_t part, int32_t block) {
    T* const grad = static_cast<T*>(grads.weight[weight]);
    for (int64_t unit = first; grad && unit < last; ++unit)
      grad[part * H + unit] = grad[part * H + unit] + sums.total(block * H + unit);
  };
  for (int32_t gate = 0; gate < cell.gates; ++gate) {
    add(kBiasIh, gate, cell.x_bias[gate]);
    add(kBiasHh, gate, cell.h_bias[gate]);
  }
  int32_t value = 0;
  for (int32_t w = kGateWeights; w < cell.weights.count; ++w)
    if (cell.weights.spec[w].role == WeightRole::per_unit)
      for (int32_t i = 0; i < cell.weights.spec[w].blocks; ++i) add(w, i, cell.unit_block[value++]);
}

// Part `thread` of `threads` of the gradients of one layer and direction.
template <class E>
class ChunkGradients {
  using T = typename E::Storage;
  using Operand = OperandOf<E>;
  using OuterA = typename EngineOf<E>::OuterA;
  using L = Lanes<typename E::Accumulator>;
  static constexpr int N = L::N, NV = EngineOf<E>::vectors;

 public:
  // `memory` is what the engine packs into: of scratch's `operands`. `sums` has a column for each of a row of dgates. A
  // chunk has at most `pairs` pairs.
  ChunkGradients(const EngineOf<E>& engine, const CellFacts& cell, int64_t H, int64_t P, int64_t inputs, int64_t pairs,
                 const PackedLayer<E>& weights, const LayerGrads& grads, const ColumnSums<T>& sums, int32_t thread,
                 int32_t threads, Operand* memory)
      : engine_(engine),
        cell_(cell),
        H_(H),
        P_(P),
        inputs_(inputs),
        weights_(weights),
        grads_(grads),
        sums_(sums),
        thread_(thread),
        threads_(threads),
        memory_(memory),
        first_(share(H, threads, thread)),
        last_(share(H, threads, thread + 1)),
        group_(outer_group<E>(engine, last_ - first_, cell.product_blocks, pairs)) {}

  // To be called before the first chunk of a layer and direction, and behind the last one.
  void begin_sums() const {
    for (int block = 0; block < cell_.dgate_blocks; ++block) sums_.clear(block * H_ + first_, block * H_ + last_);
  }
  void end_sums() const { add_sums<T>(cell_, H_, grads_, sums_, first_, last_); }

  // dR += (h part of dgates)^T states before the step, dW += (x part)^T inputs, the sums += dgates. Pair k is the row
  // of dgates gate[k], of states before[k], of gated ones gated[k], where the cell has such, and of the layer's input
  // input[k].
  void weights(const T* const* gate, const T* const* before, const T* const* gated, const T* const* input,
               int64_t pairs) const {
    if (first_ == last_) return;
    const int blocks = cell_.product_blocks, open = cell_.gates - cell_.gated_gates;
    if (sums_wanted())
      for (int block = 0; block < cell_.dgate_blocks; ++block)
        sums_.add(gate, pairs, block * H_ + first_, block * H_ + last_);
    T *const hh = static_cast<T*>(grads_.weight[kWeightHh]), *const ih = static_cast<T*>(grads_.weight[kWeightIh]);
    const bool kept = group_ < last_ - first_;
    Operand* const gated_panels = memory_ + (kept ? outer_panels<E>(engine_, P_, true) : 0);
    Operand* const input_panels = gated_panels + (kept && gated ? outer_panels<E>(engine_, H_, true) : 0);
    Operand* const columns = memory_ + weight_panels<E>(engine_, cell_, H_, P_, inputs_, kept);
    constexpr int64_t outer_block = EngineOf<E>::outer_block;
    for (int64_t k = 0; k < pairs; k += outer_block) {
      const int64_t count = pairs - k < outer_block ? pairs - k : outer_block;
      for (int64_t first = first_; first < last_; first += group_) {
        const int64_t last = last_ - first < group_ ? last_ : first + group_;
        OuterA tiles[kMaxDgateBlocks];
        for (int block = 0; block < blocks; ++block) {
          tiles[block] =
              engine_.outer(block * H_ + first, block * H_ + last, columns + block * engine_.outer_elements(group_));
          tiles[block].pack(gate + k, count, cell_.dgate_blocks * H_);
        }
        const auto part = [&](const T* const* operand, int64_t width, Operand* panels, T* weight, int block,
                              const int32_t* gate_of, int gates) {
          if (!weight) return;
          for_outer_panels<E>(engine_, operand + k, count, width, panels, kept, first > first_,
                              [&](const Operand* panel, int64_t n, int wide, int64_t left) {
                                for (int b = 0; b < gates; ++b)
                                  tiles[block + b].multiply(count, panel, wide, left,
                                                            weight + (gate_of[b] * H_ + first) * width + n, width,
                                                            false);
                              });
        };
        part(before, P_, memory_, hh, cell_.h_first, cell_.h_gate, open);
        if (gated) part(gated, H_, gated_panels, hh, cell_.h_first + open, cell_.h_gate + open, cell_.gated_gates);
        part(input, inputs_, input_panels, ih, cell_.x_first, cell_.x_gate, cell_.gates);
      }
    }
  }

  // dW_hr += dh^T u, of pair k the rows dh[k] and u[k]: shared out by units of h.
  void projection(const T* const* dh, const T* const* u, int64_t pairs) const {
    T* const weight = static_cast<T*>(grads_.weight[cell_.projection]);
    const int64_t first = share(P_, threads_, thread_), last = share(P_, threads_, thread_ + 1);
    if (!weight || first == last) return;
    const OuterA tile = engine_.outer(first, last, memory_ + outer_panels<E>(engine_, H_, false));
    constexpr int64_t outer_block = EngineOf<E>::outer_block;
    for (int64_t k = 0; k < pairs; k += outer_block) {
      const int64_t count = pairs - k < outer_block ? pairs - k : outer_block;
      tile.pack(dh + k, count, P_);
      for_outer_panels<E>(engine_, u + k, count, H_, memory_, false, false,
                          [&](const Operand* panel, int64_t n, int wide, int64_t left) {
                            tile.multiply(count, panel, wide, left, weight + first * H_ + n, H_, false);
                          });
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
    multiply<E, NV>(engine_, gate + row_first, row_last - row_first, weights_.w_back, panels, cell_.gates * H_,
                    panel_first, panel_last, memory_,
                    [&](int64_t begin, int64_t row, int tall, int wide, const auto* tile) {
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
  bool sums_wanted() const {
    bool wanted = false;
    for (int32_t w = 0; w < cell_.weights.count; ++w)
      wanted = wanted || (w != kWeightIh && w != kWeightHh && w != cell_.projection && grads_.weight[w]);
    return wanted;
  }

  const EngineOf<E> engine_;
  const CellFacts& cell_;
  const int64_t H_, P_, inputs_;
  const PackedLayer<E>& weights_;
  const LayerGrads& grads_;
  const ColumnSums<T> sums_;
  const int32_t thread_, threads_;
  Operand* const memory_;
  const int64_t first_, last_;  // hidden units
  const int64_t group_;         // of them whose columns are packed together
};

}  // namespace fusedrnn::FUSEDRNN_ISA
