// What a cell's own struct says of it, as data: for code that is compiled once for all cells.
#pragma once

#include "cells/list.hpp"

namespace fusedrnn {

// Names as in cell.hpp.
struct CellFacts {
  const char* family;
  int32_t gates, gated_gates, tape_blocks, row_values, between_blocks, dgate_blocks, product_blocks, x_first, h_first;
  const char *gate_names, *tape_names;
  bool has_cell_state;  // separate_carry: of a state c beside h
  bool carry_gradient;
  bool normalises;
  int32_t unit_values;
  WeightSpecs weights;
  int32_t projection;                            // which of them projects h, -1: none
  int32_t x_gate[kMaxGates], h_gate[kMaxGates];  // which gate the k-th block of either part of dgates belongs to
  // The block of dgates whose sums are the gradients of gate g's biases, and of a unit's k-th value.
  int32_t x_bias[kMaxGates], h_bias[kMaxGates], unit_block[kMaxUnitValues];
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

template <class Cell>
constexpr CellFacts facts_of() {
  static_assert(words_in(Cell::gate_names) == Cell::gates, "a gate has one name");
  static_assert(words_in(Cell::tape_names) == Cell::tape_blocks, "a block of the tape has one name");
  static_assert(Cell::gates <= kMaxGates, "a cell has at most kMaxGates gates: raise it (cells/cell.hpp)");
  static_assert(Cell::unit_values <= kMaxUnitValues,
                "a unit has at most kMaxUnitValues values of its own: raise it (cells/cell.hpp)");
  CellFacts f{Cell::family,
              Cell::gates,
              Cell::gated_gates,
              Cell::tape_blocks,
              Cell::row_values,
              Cell::between_blocks,
              Cell::dgate_blocks,
              0,
              Cell::x_first,
              Cell::h_first,
              Cell::gate_names,
              Cell::tape_names,
              Cell::separate_carry,
              Cell::carry_gradient,
              Cell::normalises,
              Cell::unit_values,
              Cell::weights,
              projection_of(Cell::weights),
              {},
              {},
              {},
              {},
              {}};
  for (int k = 0; k < Cell::gates; ++k) {
    f.x_gate[k] = Cell::x_gate(k);
    f.h_gate[k] = Cell::h_gate(k);
  }
  if constexpr (Cell::normalises) {
    f.product_blocks = Cell::product_blocks;
    for (int gate = 0; gate < Cell::gates; ++gate) f.x_bias[gate] = f.h_bias[gate] = Cell::bias_block(gate);
    for (int k = 0; k < Cell::unit_values; ++k) f.unit_block[k] = Cell::unit_block(k);
  } else {
    f.product_blocks = Cell::dgate_blocks - Cell::unit_values;
    for (int k = 0; k < Cell::gates; ++k) {
      f.x_bias[f.x_gate[k]] = Cell::x_first + k;
      f.h_bias[f.h_gate[k]] = Cell::h_first + k;
    }
    for (int k = 0; k < Cell::unit_values; ++k) f.unit_block[k] = f.product_blocks + k;
  }
  return f;
}

}  // namespace fusedrnn
