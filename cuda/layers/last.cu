// The state at each row's last step, and its gradient.
#include "dtype.hpp"
#include "entries.hpp"
#include "recurrent/walk.cuh"
#include "warp_rows.cuh"

namespace fusedrnn::cuda {
namespace {

FR_DEVICE int64_t last_step(const LastArgs& a, int64_t b) { return Walk{a.lengths, nullptr, 0, 0, a.T}.length(b) - 1; }

template <class T>
FR_KERNEL void last_forward_kernel(const FR_CONSTANT LastArgs a) {
  const int64_t b = warp_row();
  if (b >= a.B) return;
  const int64_t t = last_step(a, b);
  T* const y = static_cast<T*>(a.y) + b * a.y_stride;
  for (int64_t k = hw::lane(); k < a.N; k += hw::kWarp) y[k] = t < 0 ? T(0) : row_of<const T>(a.x, t, b)[k];
}

template <class T>
FR_KERNEL void last_backward_kernel(const FR_CONSTANT LastArgs a) {
  const int64_t row = warp_row();
  if (row >= a.T * a.B) return;
  const int64_t t = row / a.B, b = row % a.B;
  const bool last = t == last_step(a, b);
  const T* const dy = static_cast<const T*>(a.y) + b * a.y_stride;
  T* const dx = row_of<T>(a.x, t, b);
  for (int64_t k = hw::lane(); k < a.N; k += hw::kWarp) dx[k] = last ? dy[k] : T(0);
}

}  // namespace

Status last_forward(const LastArgs* a, Stream stream) {
  return with_dtype(a->dtype, "last_forward", [&](auto zero) {
    return hw::launch<last_forward_kernel<decltype(zero)>>(warp_per_row(a->B), stream, *a);
  });
}

Status last_backward(const LastArgs* a, Stream stream) {
  return with_dtype(a->dtype, "last_backward", [&](auto zero) {
    return hw::launch<last_backward_kernel<decltype(zero)>>(warp_per_row(a->T * a->B), stream, *a);
  });
}

}  // namespace fusedrnn::cuda
