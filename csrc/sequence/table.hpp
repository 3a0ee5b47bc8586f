// The sequence entries of the backend table: choose the cell and the type, lay out memory, run.
#pragma once

#include "backend/status.hpp"
#include "cells/list.hpp"
#include "sequence/backward.hpp"
#include "sequence/forward.hpp"
#include "sequence/pack.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class Cell_, class E_>
struct Instance {
  using Cell = Cell_;
  using E = E_;
};

template <class E, class Do>
Status with_cell(CellKind kind, Do&& run) {
  using M = Math<typename E::Accumulator>;
  switch (kind) {
#define FUSEDRNN_RUN(kind, Type) \
  case CellKind::kind:           \
    return run(Instance<Type<M>, E>());
    FUSEDRNN_CELLS(FUSEDRNN_RUN)
#undef FUSEDRNN_RUN
  }
  return fail(Status::invalid_argument, "unknown cell");
}

// run(Instance<Cell, E>()) for the cell and the element of a descriptor.
template <class Do>
Status with_instance(const SequenceDesc& desc, Do&& run) {
  if (desc.plan != PlanKind::automatic)
    return fail(Status::unsupported, desc.plan_required
                                         ? "algo must be 'auto' on a CPU: all others are plans of CUDA devices"
                                         : "a plan with a name is a GPU's: on a CPU a plan is a grid like 2x1");
  return with_element(desc.dtype, desc.precision,
                      [&](auto element) { return with_cell<decltype(element)>(desc.cell, run); });
}

template <class Cell, class E>
Plan plan_of(const SequenceDesc& desc) {
  return make_plan<Cell, E>(desc, gate_panels<Cell, E>(desc.H).count);
}

inline Status sequence_plan(const SequenceDesc* desc, Plan* plan) {
  return with_instance(*desc, [&](auto instance) {
    using I = decltype(instance);
    *plan = plan_of<typename I::Cell, typename I::E>(*desc);
    return Status::ok;
  });
}

inline Status sequence_sizes(const SequenceDesc* desc, SequenceSizes* sizes) {
  return with_instance(*desc, [&](auto instance) {
    using I = decltype(instance);
    using Cell = typename I::Cell;
    using E = typename I::E;
    const int last = desc->layers * desc->directions - 1;
    const Plan plan = plan_of<Cell, E>(*desc);
    *sizes = SequenceSizes{};
    packed_layer<Cell, E>(*desc, nullptr, last, &sizes->packed);
    if (desc->train) tape_layer<Cell, typename E::Storage>(*desc, nullptr, last, &sizes->tape);
    scratch<Cell, E>(*desc, plan, false, nullptr, &sizes->forward);
    if (desc->train) scratch<Cell, E>(*desc, plan, true, nullptr, &sizes->backward);
    return Status::ok;
  });
}

inline Status sequence_pack(const SequenceDesc* desc, const LayerWeights* weights, void* packed, Stream stream) {
  return with_instance(*desc, [&](auto instance) {
    using I = decltype(instance);
    pack_stack<typename I::Cell, typename I::E>(*desc, weights, packed, static_cast<Team*>(stream));
    return Status::ok;
  });
}

inline Status sequence_forward(const SequenceDesc* desc, const ForwardArgs* args, void* workspace, Stream stream) {
  return with_instance(*desc, [&](auto instance) {
    using I = decltype(instance);
    const Plan plan = plan_of<typename I::Cell, typename I::E>(*desc);
    Forward<typename I::Cell, typename I::E>(*desc, *args, plan, workspace, static_cast<Team*>(stream)).run();
    return Status::ok;
  });
}

inline Status sequence_backward(const SequenceDesc* desc, const BackwardArgs* args, void* workspace, Stream stream) {
  return with_instance(*desc, [&](auto instance) {
    using I = decltype(instance);
    const Plan plan = plan_of<typename I::Cell, typename I::E>(*desc);
    Backward<typename I::Cell, typename I::E>(*desc, *args, plan, workspace, static_cast<Team*>(stream)).run();
    return Status::ok;
  });
}

inline Status sequence_tape_view(const SequenceDesc* desc, const void* tape, int32_t index, TapeView* view) {
  return with_instance(*desc, [&](auto instance) {
    using I = decltype(instance);
    using Cell = typename I::Cell;
    using T = typename I::E::Storage;
    const TapeLayer<T> layer = tape_layer<Cell, T>(*desc, tape, index);
    const int64_t B = desc->B, H = desc->H;
    *view = TapeView{};
    view->gate_blocks = Cell::tape_blocks;
    if (Cell::separate_carry) view->cells = dense(layer.c, B, H);
    if (Cell::tape_blocks > 0) view->gates = dense(layer.gates, B, Cell::tape_blocks * H);
    return Status::ok;
  });
}

}  // namespace fusedrnn::FUSEDRNN_ISA
