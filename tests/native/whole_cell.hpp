// A cell whose step is in two halves as one with forward and backward, for proofs of a single unit.
//
// Between the halves a product makes h[G - 1] of the gated state. Here both are free: h[G - 1] is an input, and the
// gated state an output beside h', in the place of the carry, so dcarry is its gradient.
#pragma once

#include "cells/list.hpp"

namespace fusedrnn {

template <class Cell, bool InHalves = (Cell::gated_gates > 0)>
struct Whole : Cell {};

template <class Cell>
struct Whole<Cell, true> : Cell {
  using V = typename Cell::V;
  static constexpr int last = Cell::gates - 1;

  FR_FN static V forward(const V* x, const V* h, V state, V& gated, V* tape) {
    Cell::open(x, h, tape);
    gated = Cell::gated(tape, state);
    return Cell::close(x[last], h[last], state, tape);
  }

  FR_FN static V backward(const V* tape, V state, V /*gated*/, V dh, V& dgated, V* da) {
    const V direct = Cell::backward_close(tape, state, dh, da);
    return direct + Cell::backward_open(tape, state, dgated, da);
  }
};

}  // namespace fusedrnn
