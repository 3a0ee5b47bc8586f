// The sequence entries of the backend table: choose the cell and the type, lay out memory, run.
#pragma once

#include "backend/status.hpp"
#include "cells/gru.hpp"
#include "cells/lstm.hpp"
#include "cells/rnn.hpp"
#include "sequence/backward.hpp"
#include "sequence/forward.hpp"
#include "sequence/pack.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class Cell_, class T_>
struct Instance {
  using Cell = Cell_;
  using T = T_;
};

template <class T, class Do>
Status with_cell(CellKind kind, Do&& run) {
  using M = Math<T>;
  switch (kind) {
    case CellKind::rnn_tanh:
      return run(Instance<ElmanTanh<M>, T>());
    case CellKind::rnn_relu:
      return run(Instance<ElmanRelu<M>, T>());
    case CellKind::gru:
      return run(Instance<Gru<M>, T>());
    case CellKind::lstm:
      return run(Instance<Lstm<M>, T>());
  }
  return fail(Status::invalid_argument, "unknown cell");
}

// run(Instance<Cell, T>()) for the cell and dtype of a descriptor.
template <class Do>
Status with_instance(const SequenceDesc& desc, Do&& run) {
  if (desc.plan != PlanKind::automatic)
    return fail(
        Status::unsupported,
        desc.plan_required
            ? "algo must be 'auto' on a CPU: 'reference', 'step', 'cluster' and 'grid' are plans of CUDA devices"
            : "plans reference, step, cluster and grid are a GPU's: on a CPU a plan is a grid like 2x1");
  if (desc.precision != Precision::ieee) return fail(Status::unsupported, "a CPU computes in ieee precision only");
  if (desc.dtype == DType::float32) return with_cell<float>(desc.cell, run);
  if (desc.dtype == DType::float64) return with_cell<double>(desc.cell, run);
  return fail(Status::unsupported, "a CPU computes in float32 and float64 only");
}

template <class Cell, class T>
Plan plan_of(const SequenceDesc& desc) {
  return make_plan<Cell>(desc, StackSize<Cell, T>(desc).gates().count, sizeof(T));
}

inline Status sequence_plan(const SequenceDesc* desc, Plan* plan) {
  return with_instance(*desc, [&](auto instance) {
    using I = decltype(instance);
    *plan = plan_of<typename I::Cell, typename I::T>(*desc);
    return Status::ok;
  });
}

inline Status sequence_sizes(const SequenceDesc* desc, SequenceSizes* sizes) {
  return with_instance(*desc, [&](auto instance) {
    using I = decltype(instance);
    using Cell = typename I::Cell;
    using T = typename I::T;
    const int last = desc->layers * desc->directions - 1;
    const Plan plan = plan_of<Cell, T>(*desc);
    *sizes = SequenceSizes{};
    packed_layer<Cell, T>(*desc, nullptr, last, &sizes->packed);
    if (desc->train) tape_layer<Cell, T>(*desc, nullptr, last, &sizes->tape);
    scratch<Cell, T>(*desc, plan, false, nullptr, &sizes->forward);
    if (desc->train) scratch<Cell, T>(*desc, plan, true, nullptr, &sizes->backward);
    return Status::ok;
  });
}

inline Status sequence_pack(const SequenceDesc* desc, const LayerWeights* weights, void* packed, Stream stream) {
  return with_instance(*desc, [&](auto instance) {
    using I = decltype(instance);
    pack_stack<typename I::Cell, typename I::T>(*desc, weights, packed, static_cast<Team*>(stream));
    return Status::ok;
  });
}

inline Status sequence_forward(const SequenceDesc* desc, const ForwardArgs* args, void* workspace, Stream stream) {
  return with_instance(*desc, [&](auto instance) {
    using I = decltype(instance);
    const Plan plan = plan_of<typename I::Cell, typename I::T>(*desc);
    Forward<typename I::Cell, typename I::T>(*desc, *args, plan, workspace, static_cast<Team*>(stream)).run();
    return Status::ok;
  });
}

inline Status sequence_backward(const SequenceDesc* desc, const BackwardArgs* args, void* workspace, Stream stream) {
  return with_instance(*desc, [&](auto instance) {
    using I = decltype(instance);
    const Plan plan = plan_of<typename I::Cell, typename I::T>(*desc);
    Backward<typename I::Cell, typename I::T>(*desc, *args, plan, workspace, static_cast<Team*>(stream)).run();
    return Status::ok;
  });
}

inline Status sequence_tape_view(const SequenceDesc* desc, const void* tape, int32_t index, TapeView* view) {
  return with_instance(*desc, [&](auto instance) {
    using I = decltype(instance);
    using Cell = typename I::Cell;
    using T = typename I::T;
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
