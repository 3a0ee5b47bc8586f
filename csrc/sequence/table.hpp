// The sequence entries of the backend table: choose the cell and the type, lay out memory, run.
#pragma once

#include "backend/status.hpp"
#include "sequence/backward.hpp"
#include "sequence/forward.hpp"
#include "sequence/gated_step.hpp"
#include "sequence/normalised_backward.hpp"
#include "sequence/normalised_forward.hpp"
#include "sequence/pack.hpp"
#include "sequence/recompute.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// What a cell and an element compute a step with: in two parts where gates read a gated state, or rows are normalised.
template <class Cell, class E>
constexpr const ForwardKernels<E>* forward_step() {
  if constexpr (Cell::gated_gates > 0)
    return &GatedForwardStep<Cell, E>::kernels;
  else if constexpr (Cell::normalises)
    return &NormalisedForward<Cell, E>::kernels;
  else
    return &ForwardStep<Cell, E>::kernels;
}
template <class Cell, class E>
constexpr const BackwardKernels<E>* backward_step() {
  if constexpr (Cell::gated_gates > 0)
    return &GatedBackwardStep<Cell, E>::kernels;
  else if constexpr (Cell::normalises)
    return &NormalisedBackward<Cell, E>::kernels;
  else
    return &BackwardStep<Cell, E>::kernels;
}

// The same by a cell's kind; null for a kind that is none.
template <class E>
const ForwardKernels<E>* forward_kernels(CellKind kind) {
  using M = Math<typename E::Accumulator>;
  switch (kind) {
#define FUSEDRNN_KERNELS(kind, Type) \
  case CellKind::kind:               \
    return forward_step<Type<M>, E>();
    FUSEDRNN_CELLS(FUSEDRNN_KERNELS)
#undef FUSEDRNN_KERNELS
  }
  return nullptr;
}
template <class E>
const BackwardKernels<E>* backward_kernels(CellKind kind) {
  using M = Math<typename E::Accumulator>;
  switch (kind) {
#define FUSEDRNN_KERNELS(kind, Type) \
  case CellKind::kind:               \
    return backward_step<Type<M>, E>();
    FUSEDRNN_CELLS(FUSEDRNN_KERNELS)
#undef FUSEDRNN_KERNELS
  }
  return nullptr;
}

// run(element) for the element of a descriptor whose cell there is.
template <class Run>
Status with_sequence(const SequenceDesc& desc, Run&& run) {
  if (desc.plan != PlanKind::automatic)
    return fail(Status::unsupported, desc.plan_required
                                         ? "algo must be 'auto' on a CPU: all others are plans of CUDA devices"
                                         : "a plan with a name is a GPU's: on a CPU a plan is a grid like 2x1");
  if (!is_cell(desc.cell)) return fail(Status::invalid_argument, "unknown cell");
  if ((facts(desc.cell).projection >= 0) != (desc.P > 0))
    return fail(Status::invalid_argument, "P must be the units of h where the cell projects it, else 0");
  if (desc.recompute != 0 && (desc.directions > 1 || desc.is_packed))
    return fail(Status::unsupported, "recompute must be 0 with two directions, and with packed rows");
  return with_element(desc.dtype, desc.precision, run);
}

template <class E>
void sizes_of(const SequenceDesc& desc, SequenceSizes* sizes) {
  const int last = desc.layers * desc.directions - 1;
  const Plan plan = plan_of<E>(desc);
  *sizes = SequenceSizes{};
  packed_layer<E>(desc, nullptr, last, &sizes->packed);
  if (in_pieces<E>(desc)) {
    const Pieces<E> ahead(desc, false, nullptr), back(desc, true, nullptr);
    sizes->tape = ahead.tape_bytes();
    sizes->forward = ahead.bytes();
    sizes->backward = back.bytes();
    return;
  }
  if (desc.train) tape_layer<typename E::Storage>(desc, nullptr, last, &sizes->tape);
  scratch<E>(desc, plan, false, nullptr, &sizes->forward);
  if (desc.train) scratch<E>(desc, plan, true, nullptr, &sizes->backward);
}

inline Status sequence_plan(const SequenceDesc* desc, Plan* plan) {
  return with_sequence(*desc, [&](auto element) {
    *plan = plan_of<decltype(element)>(*desc);
    return Status::ok;
  });
}

inline Status sequence_sizes(const SequenceDesc* desc, SequenceSizes* sizes) {
  return with_sequence(*desc, [&](auto element) {
    sizes_of<decltype(element)>(*desc, sizes);
    return Status::ok;
  });
}

inline Status sequence_pack(const SequenceDesc* desc, const LayerWeights* weights, void* packed, Stream stream) {
  return with_sequence(*desc, [&](auto element) {
    pack_stack<decltype(element)>(*desc, weights, packed, static_cast<Team*>(stream));
    return Status::ok;
  });
}

inline Status sequence_forward(const SequenceDesc* desc, const ForwardArgs* args, void* workspace, Stream stream) {
  return with_sequence(*desc, [&](auto element) {
    using E = decltype(element);
    const ForwardKernels<E>& kernels = *forward_kernels<E>(desc->cell);
    Team* const team = static_cast<Team*>(stream);
    if (in_pieces<E>(*desc)) {
      Pieces<E>(*desc, false, workspace).forward(kernels, *args, team);
      return Status::ok;
    }
    const Plan plan = plan_of<E>(*desc);
    Forward<E>(kernels, *desc, *args, plan, workspace, team).run();
    return Status::ok;
  });
}

inline Status sequence_backward(const SequenceDesc* desc, const BackwardArgs* args, void* workspace, Stream stream) {
  return with_sequence(*desc, [&](auto element) {
    using E = decltype(element);
    const BackwardKernels<E>& kernels = *backward_kernels<E>(desc->cell);
    Team* const team = static_cast<Team*>(stream);
    if (in_pieces<E>(*desc)) {
      Pieces<E>(*desc, true, workspace).backward(*forward_kernels<E>(desc->cell), kernels, *args, team);
      return Status::ok;
    }
    const Plan plan = plan_of<E>(*desc);
    Backward<E>(kernels, *desc, *args, plan, workspace, team).run();
    return Status::ok;
  });
}

inline Status sequence_tape_view(const SequenceDesc* desc, const void* tape, int32_t index, TapeView* view) {
  return with_sequence(*desc, [&](auto element) {
    using T = typename decltype(element)::Storage;
    const CellFacts& cell = facts(desc->cell);
    const TapeLayer<T> layer = tape_layer<T>(*desc, tape, index);
    const int64_t B = desc->B, H = desc->H;
    *view = TapeView{};
    view->gate_blocks = cell.tape_blocks;
    if (cell.has_cell_state) view->cells = dense(layer.c, B, H);
    if (cell.tape_blocks > 0) view->gates = dense(layer.gates, B, cell.tape_blocks * H);
    return Status::ok;
  });
}

}  // namespace fusedrnn::FUSEDRNN_ISA
