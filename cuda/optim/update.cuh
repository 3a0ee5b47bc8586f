// One pass of an update rule (csrc/optim) over all segments, with clipping where that is asked for: 32 bytes a
// parameter for Adam, 4 of them read by the norm.
#pragma once

#include "dtype.hpp"
#include "optim/norm.cuh"
#include "optim/segments.cuh"
//
#include "optim/arithmetic.hpp"

namespace fusedrnn::cuda {

constexpr int kUpdateThreads = kNormThreads;
constexpr int64_t kUpdateBlocks = 1056;  // eight for each multiprocessor of an H100

struct UpdateTask {
  OptimizerArgs args;  // its segments: in `table`
  const double* lr;    // device memory, or nullptr: instead of args.lr
  int64_t* steps;      // likewise, instead of args.step: see backend.hpp's UpdateGroup
  // The clipping that every block decides for itself, from the same sums in the same order; without sums: none but that
  // of args.clip_factor.
  SquareSums squares;
  double max_norm;
  double* norm;
  int32_t skip_nonfinite;
  SegmentTable table;
};

template <class T, class Rule>
FR_DEVICE void update_piece(const Rule& rule, T factor, const Segment& s, int64_t begin, int64_t end) {
  constexpr int kEach = 16 / sizeof(T);  // elements whose loads a thread has under way
  for (int64_t first = begin + door::thread(); first < end; first += kEach * kUpdateThreads) {
    T p[kEach], g[kEach], state[kEach][3] = {};
    FR_UNROLL
    for (int j = 0; j < kEach; ++j) {
      const int64_t i = first + j * kUpdateThreads;
      if (i >= end) continue;
      p[j] = static_cast<const T*>(s.param)[i];
      g[j] = static_cast<const T*>(s.grad)[i];
      FR_UNROLL
      for (int k = 0; k < 3; ++k)
        if (s.state[k]) state[j][k] = static_cast<const T*>(s.state[k])[i];
    }
    FR_UNROLL
    for (int j = 0; j < kEach; ++j) {
      const int64_t i = first + j * kUpdateThreads;
      if (i >= end) continue;
      rule.update(p[j], g[j] * factor, state[j]);
      static_cast<T*>(s.param)[i] = p[j];
      FR_UNROLL
      for (int k = 0; k < 3; ++k)
        if (s.state[k]) static_cast<T*>(s.state[k])[i] = state[j][k];
    }
  }
}

// The factor of all gradients; false where the update is to be skipped. Reports the norm and counts the step.
FR_DEVICE bool clip(const UpdateTask& task, double& factor) {
  factor = task.args.clip_factor ? *task.args.clip_factor : 1;
  if (!task.squares.sums) return true;
  const double norm = norm_of(task.squares);
  factor = clip_factor(task.max_norm, norm);
  const bool goes_on = !task.skip_nonfinite || norm - norm == 0;
  if (door::block_x() == 0 && door::thread() == 0) {
    *task.norm = norm;
    if (task.steps) task.steps[1] = task.steps[0] + goes_on;
  }
  return goes_on;
}

template <class T, class Rule>
FR_KERNEL void FR_LAUNCH_BOUNDS(kUpdateThreads, 3) update_kernel(const FR_CONSTANT UpdateTask task) {
  double factor;
  if (!clip(task, factor)) return;
  // The rule's scalars take a few hundred operations in double: once a block.
  const door::Shared<Rule> shared = door::shared<Rule>(kBlockBytes<double, kUpdateThreads>, 1);
  if (door::thread() == 0) {
    OptimizerArgs args = task.args;
    if (task.lr) args.lr = *task.lr;
    if (task.steps) args.step = task.steps[0] + 1;
    shared[0] = Rule(args);
  }
  door::barrier();
  const Rule rule = shared[0];
  for_pieces(task.table, [&](const Segment& s, int64_t begin, int64_t end) {
    update_piece(rule, static_cast<T>(factor), s, begin, end);
  });
}

template <template <class> class Rule>
Status launch_update(UpdateTask& task, Stream stream) {
  const OptimizerArgs& a = task.args;
  return with_dtype(a.dtype, "an optimizer", [&](auto zero) {
    using T = decltype(zero);
    using R = Rule<Arithmetic<T>>;
    return for_tables(a.segment, a.segments, sizeof(T), [&](const SegmentTable& table) {
      task.table = table;
      const int64_t pieces = table.pieces(), least = task.squares.sums ? 1 : 0;
      const int64_t blocks = pieces < least ? least : pieces < kUpdateBlocks ? pieces : kUpdateBlocks;
      const door::Grid grid{{blocks}, kUpdateThreads, kBlockBytes<double, kUpdateThreads> + sizeof(R)};
      return door::launch<update_kernel<T, R>>(grid, stream, task);
    });
  });
}

Status launch_sgd(UpdateTask& task, Stream stream);
Status launch_adagrad(UpdateTask& task, Stream stream);
Status launch_rmsprop(UpdateTask& task, Stream stream);
Status launch_adam(UpdateTask& task, Stream stream);

}  // namespace fusedrnn::cuda
