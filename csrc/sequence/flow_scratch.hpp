// Scratch of gradient flow (sequence/flow.hpp).
#pragma once

#include "sequence/arena.hpp"
#include "sequence/cells.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class T>
struct FlowScratch {
  T* rows[2];    // per direction group (B, states * H): whole gradients of the states, steps in turn
  double* sums;  // per direction group (T, B, states): of their squares
};

// The states of a unit: h, and c where the cell has one.
inline int64_t states_of(const SequenceDesc& desc) { return facts(desc.cell).has_cell_state ? 2 : 1; }

template <class T>
FlowScratch<T> flow_scratch(const SequenceDesc& desc, int64_t direction_groups, Arena& arena) {
  const int64_t rows = direction_groups * desc.B * states_of(desc);
  FlowScratch<T> s{};
  for (T*& step : s.rows) step = arena.take<T>(rows * desc.H);
  s.sums = arena.take<double>(rows * desc.T);
  return s;
}

}  // namespace fusedrnn::FUSEDRNN_ISA
