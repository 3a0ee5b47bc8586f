// The facts of every cell for code of one instruction set: time loops and layouts are compiled once for all cells, a
// step (forward_step.hpp, backward_step.hpp) once for each.
#pragma once

#include "backend/status.hpp"
#include "cells/facts.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

#define FUSEDRNN_FACTS(kind, Type) facts_of<Type<NoMath>>(),
constexpr CellFacts kCellFacts[] = {FUSEDRNN_CELLS(FUSEDRNN_FACTS)};
#undef FUSEDRNN_FACTS

inline bool is_cell(CellKind kind) {
  const auto i = static_cast<int32_t>(kind);
  return i >= 0 && i < static_cast<int32_t>(sizeof kCellFacts / sizeof *kCellFacts);
}

// Of a kind that is_cell.
inline const CellFacts& facts(CellKind kind) { return kCellFacts[static_cast<int32_t>(kind)]; }

}  // namespace fusedrnn::FUSEDRNN_ISA
