// dW, dR, db and dX of a chunk of steps, once its dgates are there: products over all (step, row) pairs of the chunk.
//
// Weight gradients are shared out by rows of the weights (columns of dgates), dX by columns or by rows; a sum is never
// divided. The order of the pairs, latest step first and rows in order of length, depends on sizes and lengths alone.
#pragma once

#include "gemm/outer.hpp"
#include "gemm/parallel.hpp"
#include "sequence/layout.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// Part `thread` of `threads` of the gradients of one layer and direction.
template <class Cell, class T>
class ChunkGradients {
  using L = Lanes<T>;
  static constexpr int N = L::N, G = Cell::gates, NV = kBackVectors;

 public:
  ChunkGradients(int64_t H, int64_t inputs, const PackedLayer<T>& weights, const LayerGrads& grads, int32_t thread,
                 int32_t threads)
      : H_(H),
        inputs_(inputs),
        weights_(weights),
        grads_(grads),
        thread_(thread),
        threads_(threads),
        m_first_(share(G * H, threads, thread)),
        m_last_(share(G * H, threads, thread + 1)) {}

  // dW and db_ih += (x part of dgates)^T inputs. gate[k] points to that part in pair k, input[k] to the layer's input.
  void input_weights(const T* const* gate, const T* const* input, int64_t pairs, T* scratch) const {
    weights<XPart>(gate, input, pairs, inputs_, grads_.weight_ih, grads_.bias_ih, scratch);
  }

  // dR and db_hh += (h part of dgates)^T states before the step.
  void recurrent_weights(const T* const* gate, const T* const* before, int64_t pairs, T* scratch) const {
    weights<HPart>(gate, before, pairs, H_, grads_.weight_hh, grads_.bias_hh, scratch);
  }

  // dx[k] = (x part of dgates) W, or with `add` plus what is there.
  void inputs(const T* const* gate, T* const* dx, int64_t pairs, bool add) const {
    const int64_t vectors = vectors_of<T>(inputs_), panels = panels_of<NV>(vectors);
    const bool by_panel = panels >= 2 * threads_;
    const int64_t row_first = by_panel ? 0 : share(pairs, threads_, thread_);
    const int64_t row_last = by_panel ? pairs : share(pairs, threads_, thread_ + 1);
    const int64_t panel_first = by_panel ? share(panels, threads_, thread_) : 0;
    const int64_t panel_last = by_panel ? share(panels, threads_, thread_ + 1) : panels;
    multiply<T, NV>(gate + row_first, 1, row_last - row_first, weights_.w_back, vectors, G * H_, panel_first,
                    panel_last, [&](int64_t p, int64_t row, int tall, int wide, const T* tile) {
                      for (int r = 0; r < tall; ++r)
                        for (int v = 0; v < wide; ++v, tile += N) {
                          const int64_t n = (p * NV + v) * N;
                          const int left = static_cast<int>(inputs_ - n < N ? inputs_ - n : N);
                          T* to = dx[row_first + row + r] + n;
                          const auto sum = L::load(tile);
                          L::store(to, add ? L::load(to, left) + sum : sum, left);
                        }
                    });
  }

 private:
  struct XPart {
    static constexpr int gate(int block) { return Cell::x_gate(block); }
  };
  struct HPart {
    static constexpr int gate(int block) { return Cell::h_gate(block); }
  };

  // Blocks of a part lie side by side in dgates; runs of them whose gates are neighbours in the weights too go together
  // (all of an LSTM's, n_x and then r z of a GRU's x part).
  template <class Part>
  void weights(const T* const* gate, const T* const* operand, int64_t pairs, int64_t columns, void* weight, void* bias,
               T* scratch) const {
    for (int block = 0; block < G;) {
      int end = block + 1;
      while (end < G && Part::gate(end) == Part::gate(end - 1) + 1) ++end;
      const int64_t first = m_first_ > block * H_ ? m_first_ : block * H_,
                    last = m_last_ < end * H_ ? m_last_ : end * H_;
      const int64_t moved = (Part::gate(block) - block) * H_;  // from a column of dgates to its row of the weight
      if (first < last) {
        if (weight)
          outer_product<T>(gate, operand, pairs, first, last, columns, static_cast<T*>(weight) + moved * columns,
                           columns, false, scratch);
        if (bias) sum_rows<T>(gate, pairs, first, last, static_cast<T*>(bias) + moved);
      }
      block = end;
    }
  }

  const int64_t H_, inputs_;
  const PackedLayer<T>& weights_;
  const LayerGrads& grads_;
  const int32_t thread_, threads_;
  const int64_t m_first_, m_last_;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
