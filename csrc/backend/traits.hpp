// What a cell's own struct says of it (cells/), as data: for code that knows a CellKind at run time, Python included.
// Not for code that is compiled per instruction set, which has the struct.
#pragma once

#include "cells/list.hpp"

namespace fusedrnn {

struct CellTraits {
  CellKind kind;
  const char* name;
  const char* family;
  int32_t gates, tape_blocks, dgate_blocks, x_first, h_first;
  const char *gate_names, *tape_names;  // divided by spaces
  bool has_cell_state, carry_gradient;  // of a state c beside h
  int32_t unit_values;
  WeightSpecs weights;
  int32_t x_gate[kMaxGates], h_gate[kMaxGates];  // which gate the k-th block of either part of dgates belongs to
};

// A cell's facts do not depend on its mathematics.
struct NoMath {
  using V = float;
};

constexpr int32_t words_in(const char* text) {
  int32_t words = 0;
  for (char before = ' '; *text != 0; before = *text++) words += before == ' ' && *text != ' ';
  return words;
}

constexpr bool begins_with(const char* text, const char* start) {
  while (*start != 0)
    if (*text++ != *start++) return false;
  return true;
}

template <class Cell>
constexpr CellTraits traits_of(CellKind kind, const char* name) {
  static_assert(words_in(Cell::gate_names) == Cell::gates, "a gate has one name");
  static_assert(words_in(Cell::tape_names) == Cell::tape_blocks, "a block of the tape has one name");
  static_assert(Cell::gates <= kMaxGates, "a cell has at most kMaxGates gates: raise it (cells/cell.hpp)");
  CellTraits t{kind,
               name,
               Cell::family,
               Cell::gates,
               Cell::tape_blocks,
               Cell::dgate_blocks,
               Cell::x_first,
               Cell::h_first,
               Cell::gate_names,
               Cell::tape_names,
               Cell::separate_carry,
               Cell::carry_gradient,
               Cell::unit_values,
               Cell::weights,
               {},
               {}};
  for (int k = 0; k < Cell::gates; ++k) {
    t.x_gate[k] = Cell::x_gate(k);
    t.h_gate[k] = Cell::h_gate(k);
  }
  return t;
}

#define FUSEDRNN_TRAITS(kind, Type) traits_of<Type<NoMath>>(CellKind::kind, #kind),
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
  return t.weights.count >= kGateWeights && units == t.unit_values && begins_with(t.name, t.family);
}

constexpr bool all_consistent() {
  for (const CellTraits& t : kCells)
    if (!consistent(t)) return false;
  return true;
}
static_assert(all_consistent(),
              "a cell's weights are the four of gate_weights, then those of its units; unit_values "
              "counts these; its name begins with its family");

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
