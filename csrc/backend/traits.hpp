// The facts of every cell and its name: for code that knows a CellKind at run time, Python included. Not for code that
// is compiled per instruction set (sequence/cells.hpp).
#pragma once

#include "cells/facts.hpp"

namespace fusedrnn {

struct CellTraits : CellFacts {
  CellKind kind;
  const char* name;
};

constexpr bool begins_with(const char* text, const char* start) {
  while (*start != 0)
    if (*text++ != *start++) return false;
  return true;
}

#define FUSEDRNN_TRAITS(kind, Type) {facts_of<Type<NoMath>>(), CellKind::kind, #kind},
inline constexpr CellTraits kCells[] = {FUSEDRNN_CELLS(FUSEDRNN_TRAITS)};
#undef FUSEDRNN_TRAITS

constexpr bool consistent(const CellTraits& t) {
  int32_t units = 0;
  for (int32_t i = 0; i < t.weights.count; ++i) {
    const WeightSpec& spec = t.weights.spec[i];
    const bool per_unit = i >= kGateWeights;
    if (per_unit != (spec.role == WeightRole::per_unit)) return false;
    if (!per_unit && (static_cast<int32_t>(spec.role) != i || spec.blocks != t.gates)) return false;
    if (per_unit) units += spec.blocks;
  }
  return t.weights.count >= kGateWeights && units == t.unit_values && t.product_blocks <= kMaxDgateBlocks &&
         begins_with(t.name, t.family);
}

constexpr bool all_consistent() {
  for (const CellTraits& t : kCells)
    if (!consistent(t)) return false;
  return true;
}
static_assert(all_consistent(),
              "a cell's weights are the four of gate_weights, then those of its units; unit_values "
              "counts these; at most kMaxDgateBlocks blocks of dgates meet weights; its name begins with its family");

constexpr bool is_cell(CellKind kind) {
  const auto i = static_cast<int32_t>(kind);
  return i >= 0 && i < static_cast<int32_t>(sizeof kCells / sizeof *kCells);
}

// Of a kind that is_cell.
constexpr const CellTraits& traits(CellKind kind) { return kCells[static_cast<int32_t>(kind)]; }

// Whether weights packed for one cell are the other's: rnn_tanh's and rnn_relu's.
inline bool share_weights(const CellTraits& a, const CellTraits& b) {
  return begins_with(a.family, b.family) && begins_with(b.family, a.family) && a.weights.count == b.weights.count &&
         a.gates == b.gates;
}

// Rows and columns of a weight, one column of a vector.
struct WeightSize {
  bool matrix;
  int64_t rows, columns;
  int64_t count() const { return rows * columns; }
};
inline WeightSize weight_size(const WeightSpec& spec, int64_t inputs, int64_t H) {
  const bool matrix = spec.role == WeightRole::input || spec.role == WeightRole::recurrent;
  return {matrix, spec.blocks * H, !matrix ? 1 : spec.role == WeightRole::input ? inputs : H};
}

constexpr bool is_bias(const WeightSpec& spec) {
  return spec.role == WeightRole::input_bias || spec.role == WeightRole::recurrent_bias;
}

}  // namespace fusedrnn
