// Which plan was the fastest where, written by bench/plan_table.py. The entry of the nearest H and B counts;
// where there is none of a cell, precision and device, it is step.
//
// Nothing has been measured yet: every entry is step.
#pragma once

#include "backend/backend.hpp"

namespace fusedrnn::cuda {

struct PlanRow {
  int32_t compute_major;  // of the device's compute capability
  CellKind cell;
  Precision precision;
  int64_t H, B;
  PlanKind plan;
};

// clang-format off
constexpr PlanRow kPlanTable[] = {
    {9, CellKind::rnn_tanh, Precision::ieee, 1, 1, PlanKind::step},
    {9, CellKind::rnn_tanh, Precision::tf32, 1, 1, PlanKind::step},
    {9, CellKind::rnn_tanh, Precision::tf32x3, 1, 1, PlanKind::step},
    {9, CellKind::rnn_tanh, Precision::bf16, 1, 1, PlanKind::step},
    {9, CellKind::rnn_tanh, Precision::fp16, 1, 1, PlanKind::step},
    {9, CellKind::rnn_relu, Precision::ieee, 1, 1, PlanKind::step},
    {9, CellKind::rnn_relu, Precision::tf32, 1, 1, PlanKind::step},
    {9, CellKind::rnn_relu, Precision::tf32x3, 1, 1, PlanKind::step},
    {9, CellKind::rnn_relu, Precision::bf16, 1, 1, PlanKind::step},
    {9, CellKind::rnn_relu, Precision::fp16, 1, 1, PlanKind::step},
    {9, CellKind::gru, Precision::ieee, 1, 1, PlanKind::step},
    {9, CellKind::gru, Precision::tf32, 1, 1, PlanKind::step},
    {9, CellKind::gru, Precision::tf32x3, 1, 1, PlanKind::step},
    {9, CellKind::gru, Precision::bf16, 1, 1, PlanKind::step},
    {9, CellKind::gru, Precision::fp16, 1, 1, PlanKind::step},
    {9, CellKind::lstm, Precision::ieee, 1, 1, PlanKind::step},
    {9, CellKind::lstm, Precision::tf32, 1, 1, PlanKind::step},
    {9, CellKind::lstm, Precision::tf32x3, 1, 1, PlanKind::step},
    {9, CellKind::lstm, Precision::bf16, 1, 1, PlanKind::step},
    {9, CellKind::lstm, Precision::fp16, 1, 1, PlanKind::step},
};
// clang-format on

}  // namespace fusedrnn::cuda
