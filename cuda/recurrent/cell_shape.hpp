// What the schedule must know of a cell: the constants of its header, as data.
#pragma once

#include "backend/backend.hpp"
#include "cells/gru.hpp"
#include "cells/lstm.hpp"
#include "cells/rnn.hpp"
#include "math.cuh"

namespace fusedrnn::cuda {

struct CellShape {
  int32_t gates, tape_blocks, dgate_blocks, x_first, h_first;
  bool separate_carry, carry_gradient;
  int32_t x_gate[4], h_gate[4];  // which gate the k-th block of either part of dgates belongs to
};

template <class Cell>
constexpr CellShape shape_of() {
  CellShape s{Cell::gates,
              Cell::tape_blocks,
              Cell::dgate_blocks,
              Cell::x_first,
              Cell::h_first,
              Cell::separate_carry,
              Cell::carry_gradient,
              {},
              {}};
  for (int k = 0; k < Cell::gates; ++k) {
    s.x_gate[k] = Cell::x_gate(k);
    s.h_gate[k] = Cell::h_gate(k);
  }
  return s;
}

inline CellShape shape_of(CellKind kind) {
  using M = Math<float>;
  if (kind == CellKind::lstm) return shape_of<Lstm<M>>();
  if (kind == CellKind::gru) return shape_of<Gru<M>>();
  return shape_of<ElmanTanh<M>>();
}

}  // namespace fusedrnn::cuda
