// One pass of an update rule (csrc/optim) over all segments, with clipping where that is asked for: 32 bytes a
// parameter for Adam, 4 of them read by the norm.
#pragma once

#include "dtype.hpp"
#include "optim/launch.hpp"
#include "optim/segments.cuh"
#include "products/elements.cuh"
//
#include "optim/arithmetic.hpp"

namespace fusedrnn::cuda {

constexpr int kUpdateThreads = kNormThreads;
template <class T>
constexpr int kUpdateBlocks = sizeof(T) == 8 ? 3 : 4;  // of a multiprocessor

template <int N>
struct UpdateArgs {
  UpdateTask task;
  SegmentTable<N> table;
};

template <class T, class Rule>
FR_DEVICE void update_piece(const Rule& rule, T factor, const Segment& s, int64_t begin, int64_t end) {
  constexpr int V = 16 / sizeof(T);
  bool whole = aligned(s.param) && aligned(s.grad);
  FR_UNROLL
  for (int k = 0; k < kMaxStates; ++k) whole = whole && aligned(s.state[k]);
  for (int64_t first = begin + V * hw::thread(); first < end; first += V * kUpdateThreads) {
    const bool all = whole && first + V <= end;
    Elements<T> p = fetch<T>(s.param, first, end, all), state[kMaxStates] = {};
    const Elements<T> g = fetch<T>(s.grad, first, end, all);
    FR_UNROLL
    for (int k = 0; k < kMaxStates; ++k)
      if (s.state[k]) state[k] = fetch<T>(s.state[k], first, end, all);
    FR_UNROLL
    for (int j = 0; j < V; ++j) {
      T own[kMaxStates];
      FR_UNROLL
      for (int k = 0; k < kMaxStates; ++k) own[k] = state[k].v[j];
      rule.update(p.v[j], g.v[j] * factor, own);
      FR_UNROLL
      for (int k = 0; k < kMaxStates; ++k) state[k].v[j] = own[k];
    }
    put<T>(s.param, first, end, all, p);
    FR_UNROLL
    for (int k = 0; k < kMaxStates; ++k)
      if (s.state[k]) put<T>(s.state[k], first, end, all, state[k]);
  }
}

// The factor of all gradients; false where the update is to be skipped. Reports the norm and counts the step.
FR_DEVICE bool clip(const UpdateTask& task, double& factor) {
  factor = task.args.clip_factor ? *task.args.clip_factor : 1;
  bool applies = !task.fault || task.fault->what == 0;
  double norm = applies ? 0 : nan_of<double>();
  if (task.squares.sums && applies) {
    norm = norm_of(task.squares);
    factor = clip_factor(task.max_norm, norm);
    applies = !task.skip_nonfinite || norm - norm == 0;
  }
  if (hw::block_x() == 0 && hw::thread() == 0) {
    if (task.squares.sums) *task.norm = norm;
    if (task.steps) task.steps[1] = task.steps[0] + applies;
  }
  return applies;
}

template <class T, class Rule, int N>
FR_KERNEL void FR_LAUNCH_BOUNDS(kUpdateThreads, kUpdateBlocks<T>) update_kernel(const FR_CONSTANT UpdateArgs<N> a) {
  const UpdateTask& task = a.task;
  double factor;
  if (!clip(task, factor)) return;
  // The rule's scalars take a few hundred operations in double: once a block.
  const hw::Shared<Rule> shared = hw::shared<Rule>(kBlockBytes<double, kUpdateThreads>, 1);
  if (hw::thread() == 0) {
    OptimizerArgs args = task.args;
    if (task.lr) args.scalar[kLearningRate] = *task.lr;
    if (task.steps) args.step = task.steps[0] + 1;
    shared[0] = Rule(args);
  }
  hw::barrier();
  const Rule rule = shared[0];
  for_pieces(a.table, [&](const Segment& s, int64_t begin, int64_t end) {
    update_piece(rule, static_cast<T>(factor), s, begin, end);
  });
}

template <template <class> class Rule>
Status launch_update(const UpdateTask& task, Stream stream) {
  const OptimizerArgs& a = task.args;
  hw::Limits limits;
  const Status status = hw::device_limits(&limits);
  if (status != Status::ok) return status;
  return with_dtype(a.dtype, "an optimizer", [&](auto zero) {
    using T = decltype(zero);
    using R = Rule<Arithmetic<T>>;
    return for_few_tables(a.segment, a.segments, sizeof(T), limits, [&](const auto& table) {
      constexpr int N = kMostOf<decltype(table)>;
      const int64_t pieces = table.pieces(), least = task.squares.sums || task.steps ? 1 : 0;
      const int64_t most = kUpdateBlocks<T> * limits.multiprocessors;
      const int64_t blocks = pieces < least ? least : pieces < most ? pieces : most;
      const hw::Grid grid{{blocks}, kUpdateThreads, kBlockBytes<double, kUpdateThreads> + sizeof(R)};
      return hw::launch<update_kernel<T, R, N>>(grid, stream, {task, table});
    });
  });
}

}  // namespace fusedrnn::cuda
