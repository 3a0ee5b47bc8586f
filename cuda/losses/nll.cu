// Negative log-likelihood of rows (csrc/losses/nll.hpp has the equation). A row belongs to a warp.
#include "dtype.hpp"
#include "losses/loss.cuh"

namespace fusedrnn::cuda {
namespace {

constexpr int kThreads = 256, kRows = kThreads / hw::kWarp;

template <class T>
FR_KERNEL void nll_kernel(const FR_CONSTANT LossTask task) {
  const LossArgs& a = task.args;
  const int64_t row = hw::block_x() * kRows + hw::warp();
  if (row >= a.rows) return;
  T* const dp = static_cast<T*>(a.dpred) + row * a.classes;
  const int64_t target = element_of<int64_t>(a.target, row);
  const bool known = target >= 0 && target < a.classes, counts_here = counts<int64_t>(task, row);
  const double weight = known && a.weight ? a.weight[target] : 1;
  const T slope = static_cast<T>(-weight * (1 / divisor_of(task)));
  for (int64_t k = hw::lane(); k < a.classes; k += hw::kWarp)
    dp[k] = !counts_here ? T(0) : !known ? nan_of<T>() : k == target ? slope : T(0);
  if (hw::lane() > 0) return;
  double loss = 0;
  if (counts_here && !known) loss = nan_of<double>();
  if (counts_here && known && weight != 0) loss = -weight * static_cast<double>(row_of<T>(a.pred, row)[target]);
  if (a.spec.reduction == Reduction::none)
    static_cast<T*>(a.loss)[row] = static_cast<T>(loss);
  else
    a.partials[row] = loss;
}

}  // namespace

Status launch_nll(const LossTask& task, Stream stream) {
  return with_dtype(task.args.dtype, "nll", [&](auto zero) {
    return hw::launch<nll_kernel<decltype(zero)>>({{(task.args.rows + kRows - 1) / kRows}, kThreads, 0}, stream, task);
  });
}

}  // namespace fusedrnn::cuda
