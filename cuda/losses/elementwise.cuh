// Losses whose entries are elements: a block has a chunk of kReduceChunk. Loss is csrc/losses': an entry's loss and its
// derivative up to a constant.
#pragma once

#include "dtype.hpp"
#include "losses/loss.cuh"
#include "sum.cuh"

namespace fusedrnn::cuda {

constexpr int kElementwiseThreads = 256;

template <class T, template <class> class Loss>
FR_KERNEL void elementwise_kernel(const FR_CONSTANT LossTask task) {
  const LossArgs& a = task.args;
  const int64_t begin = hw::block_x() * kReduceChunk, after = begin + kReduceChunk;
  const int64_t end = after < task.entries ? after : task.entries;
  const T factor = static_cast<T>(Loss<T>::factor * (1 / divisor_of(task)));
  double sum = 0;
  for (int64_t i = begin + hw::thread(); i < end; i += kElementwiseThreads) {
    const T p = element_of<T>(a.pred, i), t = element_of<T>(a.target, i);
    T slope, loss;
    if constexpr (Loss<T>::weighted)
      loss =
          a.weight ? Loss<T>::entry(p, t, static_cast<T>(a.weight[i % a.weights]), slope) : Loss<T>::entry(p, t, slope);
    else
      loss = Loss<T>::entry(p, t, slope);
    T dpred = slope * factor;
    if (!counts<T>(task, i)) loss = dpred = 0;
    static_cast<T*>(a.dpred)[i] = dpred;
    if (a.spec.reduction == Reduction::none) static_cast<T*>(a.loss)[i] = loss;
    sum = sum + static_cast<double>(loss);
  }
  if (a.spec.reduction == Reduction::none) return;
  sum = block_sum<kElementwiseThreads>(sum);
  if (hw::thread() == 0) a.partials[hw::block_x()] = sum;
}

template <template <class> class Loss>
Status launch_elementwise(const char* name, const LossTask& task, Stream stream) {
  return with_dtype(task.args.dtype, name, [&](auto zero) {
    const hw::Grid grid{{(task.entries + kReduceChunk - 1) / kReduceChunk},
                        kElementwiseThreads,
                        kBlockBytes<double, kElementwiseThreads>};
    return hw::launch<elementwise_kernel<decltype(zero), Loss>>(grid, stream, task);
  });
}

}  // namespace fusedrnn::cuda
