// The table's entry for losses. The number of entries that count, where it is not known, and the sum are found on the
// device: the former waits where the latter will be.
#include "losses/loss.cuh"

#include "backend/scratch.hpp"
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
  double found = 0;
  for (int64_t i = begin + hw::thread(); i < end; i += kThreads) found = found + counted<Target>(task, i);
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

Status count(const LossTask& task, const LossFacts& facts, Stream stream) {
  const int64_t chunks = chunks_of(task.entries);
  const hw::Grid grid{{chunks}, kThreads, kBlockBytes<double, kThreads>};
  const Status status = with_dtype(task.args.dtype, "a loss", [&](auto zero) {
    using T = decltype(zero);
    if (!facts.by_rows) return hw::launch<count_kernel<T>>(grid, stream, task);
    if (facts.target == TargetType::index) return hw::launch<count_kernel<int64_t>>(grid, stream, task);
    return hw::launch<count_kernel<char>>(grid, stream, task);
  });
  return status == Status::ok ? add_up(task, chunks, stream) : status;
}

Status launch(const LossTask& task, Stream stream) {
  switch (task.args.spec.kind) {
#define FUSEDRNN_ELEMENT(kind, Loss, header) \
  case LossKind::kind:                       \
    return launch_elementwise<Loss>(#kind, task, stream);
#define FUSEDRNN_ROW(kind, function, target) \
  case LossKind::kind:                       \
    return launch_##function(task, stream);
    FUSEDRNN_LOSSES(FUSEDRNN_ELEMENT, FUSEDRNN_ROW)
#undef FUSEDRNN_ROW
#undef FUSEDRNN_ELEMENT
  }
  return Status::invalid_argument;  // of no kind at all: `loss` has looked
}

}  // namespace

Status loss(const LossArgs* a, Stream stream) {
  const LossSpec& spec = a->spec;
  if (!is_loss(spec.kind))
    return fail(Status::invalid_argument, "a loss of kind %d, which is not in losses/list.hpp",
                static_cast<int>(spec.kind));
  const LossFacts& facts = facts_of(spec.kind);
  LossTask task{*a, facts.by_rows ? a->rows : a->rows * a->classes, facts.by_rows ? 1 : a->classes, 1, nullptr};
  Status status = Status::ok;
  const bool weighed = a->weight && facts.target == TargetType::index;
  if (spec.reduction == Reduction::mean && (a->mask.data || spec.has_ignore_index || weighed)) {
    status = count(task, facts, stream);
    task.found = static_cast<const double*>(a->loss);
  } else if (spec.reduction == Reduction::mean && task.entries > 0) {
    task.divisor = static_cast<double>(task.entries);
  }
  if (status == Status::ok) status = launch(task, stream);
  if (status != Status::ok || spec.reduction == Reduction::none) return status;
  return add_up(task, static_cast<int64_t>(loss_partials(*a)), stream);
}

}  // namespace fusedrnn::cuda
