// The table's entry for losses. The number of entries that count, where it is not known, and the sum are found on the
// device: the former waits where the latter will be.
#include "losses/loss.cuh"

#include "dtype.hpp"
#include "entries.hpp"
#include "sum.cuh"

namespace fusedrnn::cuda {
namespace {

constexpr int kThreads = 256;

template <class Target>
FR_KERNEL void count_kernel(const FR_CONSTANT LossTask task) {
  const int64_t begin = hw::block_x() * kReduceChunk, after = begin + kReduceChunk;
  const int64_t end = after < task.entries ? after : task.entries;
  int32_t found = 0;
  for (int64_t i = begin + hw::thread(); i < end; i += kThreads) found += counts<Target>(task, i);
  found = block_sum<kThreads>(found);
  if (hw::thread() == 0) task.args.partials[hw::block_x()] = found;
}

struct TotalTask {
  LossTask loss;
  int64_t partials;
  double* total;
};

// One block. Each thread adds every kThreads-th partial in order, then the threads' sums are added.
FR_KERNEL void total_kernel(const FR_CONSTANT TotalTask task) {
  double sum = 0;
  for (int64_t i = hw::thread(); i < task.partials; i += kThreads) sum = sum + task.loss.args.partials[i];
  sum = block_sum<kThreads>(sum);
  const Fault* const fault = task.loss.args.fault;
  if (hw::thread() == 0) *task.total = fault && fault->what != 0 ? nan_of<double>() : sum / divisor_of(task.loss);
}

Status add_up(const LossTask& loss, int64_t partials, Stream stream) {
  return hw::launch<total_kernel>({{1}, kThreads, kBlockBytes<double, kThreads>}, stream,
                                  {loss, partials, static_cast<double*>(loss.args.loss)});
}

Status count(const LossTask& task, Stream stream) {
  const int64_t chunks = (task.entries + kReduceChunk - 1) / kReduceChunk;
  const hw::Grid grid{{chunks}, kThreads, kBlockBytes<int32_t, kThreads>};
  const Status status = with_dtype(task.args.dtype, "a loss", [&](auto zero) {
    using T = decltype(zero);
    if (task.args.kind == LossKind::cross_entropy_classes) return hw::launch<count_kernel<int64_t>>(grid, stream, task);
    if (task.args.kind == LossKind::cross_entropy_probabilities)
      return hw::launch<count_kernel<char>>(grid, stream, task);
    return hw::launch<count_kernel<T>>(grid, stream, task);
  });
  return status == Status::ok ? add_up(task, chunks, stream) : status;
}

}  // namespace

Status loss(const LossArgs* a, Stream stream) {
  const bool by_rows = a->kind == LossKind::cross_entropy_classes || a->kind == LossKind::cross_entropy_probabilities;
  LossTask task{*a, by_rows ? a->rows : a->rows * a->classes, by_rows ? 1 : a->classes, 1, nullptr};
  Status status = Status::ok;
  if (a->reduction == Reduction::mean && (a->mask.data || a->has_ignore_index)) {
    status = count(task, stream);
    task.found = static_cast<const double*>(a->loss);
  } else if (a->reduction == Reduction::mean && task.entries > 0) {
    task.divisor = static_cast<double>(task.entries);
  }
  if (status != Status::ok) return status;
  if (a->kind == LossKind::mse)
    status = launch_mse(task, stream);
  else if (a->kind == LossKind::binary_cross_entropy)
    status = launch_binary_cross_entropy(task, stream);
  else
    status = launch_cross_entropy(task, stream);
  if (status != Status::ok || a->reduction == Reduction::none) return status;
  return add_up(task, by_rows ? a->rows : (task.entries + kReduceChunk - 1) / kReduceChunk, stream);
}

}  // namespace fusedrnn::cuda
