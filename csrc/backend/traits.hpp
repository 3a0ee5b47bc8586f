// The facts of every cell and its name: for code that knows a CellKind at run time, Python included. Not for code that
// is compiled per instruction set (sequence/cells.hpp).
#pragma once

#include "cells/facts.hpp"

namespace fusedrnn {

struct CellTraits : CellFacts {
  CellKind kind;
  const char* name;
  bool on_cuda;
};

constexpr bool begins_with(const char* text, const char* start) {
  while (*start != 0)
    if (*text++ != *start++) return false;
  return true;
}

#define FUSEDRNN_TRAITS(kind, Type, on_cuda) {facts_of<Type<NoMath>>(), CellKind::kind, #kind, on_cuda},
#define FUSEDRNN_ON_CUDA(kind, Type) FUSEDRNN_TRAITS(kind, Type, true)
#define FUSEDRNN_ON_HOST(kind, Type) FUSEDRNN_TRAITS(kind, Type, false)
inline constexpr CellTraits kCells[] = {FUSEDRNN_CUDA_CELLS(FUSEDRNN_ON_CUDA) FUSEDRNN_HOST_CELLS(FUSEDRNN_ON_HOST)};
#undef FUSEDRNN_TRAITS
#undef FUSEDRNN_ON_CUDA
#undef FUSEDRNN_ON_HOST

constexpr bool consistent(const CellTraits& t) {
  int32_t units = 0;
  for (int32_t i = 0; i < t.weights.count; ++i) {
    const WeightSpec& spec = t.weights.spec[i];
    const bool per_unit = spec.role == WeightRole::per_unit;
    if ((i < kGateWeights) != (spec.role < WeightRole::per_unit)) return false;
    if (i < kGateWeights && (static_cast<int32_t>(spec.role) != i || spec.blocks != t.gates)) return false;
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
              "a cell's weights are the four of gate_weights, then those of its units and a projection; "
              "unit_values counts the former; at most kMaxDgateBlocks blocks of dgates meet weights; its name begins "
              "with its family");

constexpr bool is_cell(CellKind kind) {
  const auto i = static_cast<int32_t>(kind);
  return i >= 0 && i < static_cast<int32_t>(sizeof kCells / sizeof *kCells);
}

// Of a kind that is_cell.
constexpr const CellTraits& traits(CellKind kind) { return kCells[static_cast<int32_t>(kind)]; }

// Whether weights packed for one cell are the other's: rnn_tanh's and rnn_relu's.
inline bool share_weights(const CellTraits& a, const CellTraits& b) {
  return begins_with(a.family, b.family) && begins_with(b.family, a.family) && a.weights.count == b.weights.count &&
         a.gates == b.gates && a.gated_gates == b.gated_gates;
}

// Rows and columns of a weight of H units, P of h, and what errors call them; one column of a vector.
struct WeightSize {
  bool matrix;
  int64_t rows, columns;
  const char* row_words;
  const char* column_words;
  int64_t count() const { return rows * columns; }
};
inline WeightSize weight_size(const WeightSpec& spec, int64_t inputs, int64_t H, int64_t P) {
  switch (spec.role) {
    case WeightRole::input:
      return {true, spec.blocks * H, inputs, "G*H", "in"};
    case WeightRole::recurrent:
      return {true, spec.blocks * H, P, "G*H", P == H ? "H" : "P"};
    case WeightRole::projection:
      return {true, P, H, "P", "H"};
    case WeightRole::input_bias:
    case WeightRole::recurrent_bias:
      return {false, spec.blocks * H, 1, "G*H", ""};
    case WeightRole::per_unit:
      break;
  }
  return {false, spec.blocks * H, 1, spec.blocks == 1 ? "H" : "n*H", ""};
}

constexpr bool is_bias(const WeightSpec& spec) {
  return spec.role == WeightRole::input_bias || spec.role == WeightRole::recurrent_bias;
}

}  // namespace fusedrnn
