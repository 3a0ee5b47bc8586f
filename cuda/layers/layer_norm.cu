// Layer normalisation of rows (csrc/layers/layer_norm.hpp has the equations): one warp per row, in double, each result
// rounded once. The sums over rows are column_sums.cuh's.
#include "column_sums.cuh"
#include "dtype.hpp"
#include "entries.hpp"
#include "products/elements.cuh"
#include "warp_rows.cuh"

namespace fusedrnn::cuda {
namespace {

// The sum of term(k) over k in [0, width), by the lanes of a warp.
template <class Term>
FR_DEVICE double sum_row(int64_t width, const Term& term) {
  double sum = 0;
  for (int64_t k = hw::lane(); k < width; k += hw::kWarp) sum = sum + term(k);
  return warp_sum(sum);
}

template <class T>
FR_KERNEL void layer_norm_forward_kernel(const FR_CONSTANT LayerNormArgs a) {
  const int64_t row = warp_row();
  if (row >= a.rows) return;
  const T* const x = row_of<T>(a.x, row);
  const T *const weight = static_cast<const T*>(a.weight), *const bias = static_cast<const T*>(a.bias);
  T* const y = static_cast<T*>(a.y) + row * a.width;
  const double n = static_cast<double>(a.width);
  const double mean = sum_row(a.width, [&](int64_t k) { return static_cast<double>(x[k]); }) / n;
  const double squares = sum_row(a.width, [&](int64_t k) {
    const double d = static_cast<double>(x[k]) - mean;
    return d * d;
  });
  const double rstd = 1 / Lanes<double>::sqrt(squares / n + a.eps);
  if (hw::lane() == 0) {
    a.mean[row] = mean;
    static_cast<T*>(a.rstd)[row] = static_cast<T>(rstd);
  }
  for (int64_t k = hw::lane(); k < a.width; k += hw::kWarp) {
    double value = (static_cast<double>(x[k]) - mean) * rstd;
    if (weight) value = value * static_cast<double>(weight[k]);
    if (bias) value = value + static_cast<double>(bias[k]);
    y[k] = static_cast<T>(value);
  }
}

template <class T>
FR_KERNEL void layer_norm_dx_kernel(const FR_CONSTANT LayerNormArgs a) {
  const int64_t row = warp_row();
  if (row >= a.rows) return;
  const T *const x = row_of<T>(a.x, row), *const dy = row_of<T>(a.dy, row);
  const T* const weight = static_cast<const T*>(a.weight);
  T* const dx = static_cast<T*>(a.dx) + row * a.width;
  const double mean = a.mean[row];
  const double rstd = static_cast<double>(static_cast<const T*>(a.rstd)[row]);
  const auto normal = [&](int64_t k) { return (static_cast<double>(x[k]) - mean) * rstd; };
  const auto slope = [&](int64_t k) {
    const double g = static_cast<double>(dy[k]);
    return weight ? g * static_cast<double>(weight[k]) : g;
  };
  const double n = static_cast<double>(a.width);
  const double along = sum_row(a.width, slope) / n;
  const double across = sum_row(a.width, [&](int64_t k) { return slope(k) * normal(k); }) / n;
  for (int64_t k = hw::lane(); k < a.width; k += hw::kWarp)
    dx[k] = static_cast<T>(rstd * (slope(k) - along - normal(k) * across));
}

template <class T>
FR_KERNEL void FR_LAUNCH_BOUNDS(kSumThreads, 1) layer_norm_dweight_kernel(const FR_CONSTANT LayerNormArgs a) {
  const int64_t column = summed_column();
  double dweight = 0, dbias = 0;
  if (column < a.width) {
    FR_UNROLL_BY(2)
    for (int64_t row = sum_group(); row < a.rows; row += kSumGroups) {
      const double mean = a.mean[row];
      const double rstd = static_cast<double>(static_cast<const T*>(a.rstd)[row]);
      const double g = static_cast<double>(row_of<T>(a.dy, row)[column]);
      dweight = dweight + g * ((static_cast<double>(row_of<T>(a.x, row)[column]) - mean) * rstd);
      dbias = dbias + g;
    }
  }
  dweight = add_groups(dweight);
  dbias = add_groups(dbias);
  const int64_t finished = hw::block_x() * kSumColumns + hw::warp();
  if (hw::warp() >= kSumColumns || hw::lane() > 0 || finished >= a.width) return;
  T* const weight_at = static_cast<T*>(a.dweight) + finished;
  T* const bias_at = static_cast<T*>(a.dbias) + finished;
  if (a.dweight) *weight_at = static_cast<T>(static_cast<double>(*weight_at) + dweight);
  if (a.dbias) *bias_at = static_cast<T>(static_cast<double>(*bias_at) + dbias);
}

}  // namespace

Status layer_norm_forward(const LayerNormArgs* a, Stream stream) {
  return with_dtype(a->dtype, "layer_norm_forward", [&](auto zero) {
    return hw::launch<layer_norm_forward_kernel<decltype(zero)>>(warp_per_row(a->rows), stream, *a);
  });
}

Status layer_norm_backward(const LayerNormArgs* a, Stream stream) {
  return with_dtype(a->dtype, "layer_norm_backward", [&](auto zero) {
    using T = decltype(zero);
    const Status status = hw::launch<layer_norm_dx_kernel<T>>(warp_per_row(a->rows), stream, *a);
    if (status != Status::ok || !(a->dweight || a->dbias)) return status;
    const hw::Grid grid{{(a->width + kSumColumns - 1) / kSumColumns}, kSumThreads, kColumnSumBytes<double>};
    return hw::launch<layer_norm_dweight_kernel<T>>(grid, stream, *a);
  });
}

}  // namespace fusedrnn::cuda
