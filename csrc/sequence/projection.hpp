// The parts of a step that know h alone, of a cell that projects it: h = W_hr u behind the cell, and on the way back
// the gradient of h in front of it. u is what the cell returns; all H units of it make one of the P units of h.
#pragma once

#include "sequence/parts.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// ForwardKernels::finish.
template <class E>
void project_states(const ForwardPart<E>& part, const PackedLayer<E>& weights, int64_t active,
                    const typename E::Storage* /*pre*/) {
  using L = Lanes<typename E::Accumulator>;
  constexpr int N = L::N;
  const int64_t P = part.P;
  for (int64_t i = 0; i < active; ++i) part.operand[i] = part.row[i].between;
  multiply<E, EngineOf<E>::vectors>(
      part.engine, part.operand, active, weights.project, part.state_panels, part.H, part.first_state_panel,
      part.last_state_panel, part.memory, [&](int64_t begin, int64_t first, int tall, int wide, const auto* tile) {
        for (int r = 0; r < tall; ++r)
          for (int v = 0; v < wide; ++v, tile += N) {
            const ForwardRow<typename E::Storage>& row = part.row[first + r];
            const int64_t unit = (begin + v) * N;
            typename L::V h = L::load(tile);
            if (row.masks) UnitMasks<E>::forward_h(*row.masks, unit, static_cast<int>(P - unit < N ? P - unit : N), h);
            store_units(row.h, unit, P, h);
            if (row.y) store_units(row.y, unit, P, h);
            if (row.hn) store_units(row.hn, unit, P, h);
          }
      });
}

// All of the gradient of a row's units of h, `dh` being what arrives from the step after.
template <class E, class L = Lanes<typename E::Accumulator>>
FR_INLINE void state_gradient(const BackwardRow<typename E::Storage>& row, int64_t unit, int64_t P, typename L::V dh) {
  if (row.dy) dh = load_units(row.dy, unit, P) + dh;
  if (row.flow) store_units(row.flow, unit, P, dh);
  if (row.masks) UnitMasks<E>::backward_h(*row.masks, unit, static_cast<int>(P - unit < L::N ? P - unit : L::N), dh);
  store_units(row.dh, unit, P, dh);
}

// BackwardKernels::step, of a cell of G gates.
template <class E, int G>
void state_gradients(const BackwardPart<E>& part, const PackedLayer<E>& weights, int64_t continuing, int64_t active) {
  using L = Lanes<typename E::Accumulator>;
  constexpr int N = L::N;
  const int64_t P = part.P;
  multiply<E, EngineOf<E>::vectors>(part.engine, part.table, continuing, weights.r_back, part.state_panels, G * part.H,
                                    part.first_state_panel, part.last_state_panel, part.memory,
                                    [&](int64_t begin, int64_t first, int tall, int wide, const auto* tile) {
                                      for (int r = 0; r < tall; ++r)
                                        for (int v = 0; v < wide; ++v, tile += N) {
                                          const int64_t unit = (begin + v) * N;
                                          const BackwardRow<typename E::Storage>& row = part.row[first + r];
                                          state_gradient<E>(row, unit, P, arriving<E>(row, unit, P, L::load(tile)));
                                        }
                                    });
  const int64_t last = part.state_panels.begin(part.last_state_panel);
  for (int64_t i = continuing; i < active; ++i)
    for (int64_t v = part.state_panels.begin(part.first_state_panel); v < last; ++v) {
      const BackwardRow<typename E::Storage>& row = part.row[i];
      state_gradient<E>(row, v * N, P, row.start ? load_units(row.start, v * N, P) : L::zero());
    }
}

}  // namespace fusedrnn::FUSEDRNN_ISA
