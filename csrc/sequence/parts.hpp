// What the time loops hand to the kernels of a step: a thread's units and rows, and the kernels as a table.
#pragma once

#include "sequence/masks.hpp"
#include "sequence/units.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// The units of one thread of the grid, and the memory it works in.
template <class E>
struct ForwardPart {
  using T = typename E::Storage;

  EngineOf<E> engine;
  int64_t H, P;
  Panels panels;  // of the gates
  int64_t first_panel, last_panel, first_vector;
  Panels state_panels;  // of the units of h
  int64_t first_state_panel, last_state_panel;
  int64_t unit_group, unit_groups;
  int64_t pre_stride;    // elements of a row of X W + b_ih: the thread's columns alone
  const T** operand;     // the rows of a product
  OperandOf<E>* memory;  // what the engine packs them into
  ForwardRow<T>* row;    // the rows of a step, as `operand`
};

template <class E>
struct ForwardKernels {
  using T = typename E::Storage;

  // pre[row] = x W + b_ih for `rows` rows of K inputs.
  void (*input)(const ForwardPart<E>& part, const PackedLayer<E>& weights, int64_t rows, int64_t K, T* pre);
  // h R + b_hh for the `active` rows of a step, and the cell, or its first part.
  void (*step)(const ForwardPart<E>& part, const PackedLayer<E>& weights, int64_t active, const T* pre);
  // The second part, when all threads of the row group have done the first: null for a cell that ends with it.
  void (*finish)(const ForwardPart<E>& part, const PackedLayer<E>& weights, int64_t active, const T* pre);
};

// Likewise of backward.
template <class E>
struct BackwardPart {
  using T = typename E::Storage;

  EngineOf<E> engine;
  int64_t H, P;
  Panels panels;  // of units
  int64_t first_panel, last_panel;
  Panels state_panels;  // of the units of h
  int64_t first_state_panel, last_state_panel;
  int64_t unit_group, unit_groups;
  const T** table;       // the rows of a product
  OperandOf<E>* memory;  // what the engine packs them into
  BackwardRow<T>* row;   // the rows of a step, as `table`
};

template <class E>
struct BackwardKernels {
  // dh = dgates(next step) R for `continuing` rows of a step, what starts at it for the rest of the `active` ones, and
  // the cell's gradients, or the first part of them.
  void (*step)(const BackwardPart<E>& part, const PackedLayer<E>& weights, int64_t continuing, int64_t active);
  // The second part, when all threads of the row group have done the first: null for a cell that ends with it.
  void (*finish)(const BackwardPart<E>& part, const PackedLayer<E>& weights, int64_t active);
};

// What the product of the step after hands to a row, of P units of h.
template <class E, class L = Lanes<typename E::Accumulator>>
FR_INLINE typename L::V arriving(const BackwardRow<typename E::Storage>& row, int64_t unit, int64_t P,
                                 typename L::V product) {
  if (!row.masks) return product;
  return UnitMasks<E>::arriving(*row.masks, unit, static_cast<int>(P - unit < L::N ? P - unit : L::N), product);
}

}  // namespace fusedrnn::FUSEDRNN_ISA
