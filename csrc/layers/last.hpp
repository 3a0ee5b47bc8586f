// The state at each row's last step.
#pragma once

#include "gemm/parallel.hpp"
#include "simd/strided.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

FR_INLINE int64_t last_step(const LastArgs& a, int64_t b) { return (a.lengths ? a.lengths[b] : a.T) - 1; }

template <class T>
void run_last_forward(const LastArgs& a) {
  for (int64_t b = 0; b < a.B; ++b) {
    const int64_t t = last_step(a, b);
    T* y = static_cast<T*>(a.y) + b * a.y_stride;
    if (t < 0) {
      for (int64_t k = 0; k < a.N; ++k) y[k] = 0;
    } else {
      const T* x = static_cast<const T*>(a.x.data) + t * a.x.stride0 + b * a.x.stride1;
      for (int64_t k = 0; k < a.N; ++k) y[k] = x[k];
    }
  }
}

template <class T>
void run_last_backward(const LastArgs& a, Team* team) {
  const int32_t threads = useful_threads(team, a.T * a.B * a.N, a.T);
  parallel(team, threads, [&](int32_t i) {
    for (int64_t t = share(a.T, threads, i); t < share(a.T, threads, i + 1); ++t)
      for (int64_t b = 0; b < a.B; ++b) {
        T* dx = static_cast<T*>(a.x.data) + t * a.x.stride0 + b * a.x.stride1;
        const T* dy = static_cast<const T*>(a.y) + b * a.y_stride;
        const bool last = t == last_step(a, b);
        for (int64_t k = 0; k < a.N; ++k) dx[k] = last ? dy[k] : T(0);
      }
  });
}

inline Status last_forward(const LastArgs* a, Stream) {
  return with_type(a->dtype, [&](auto type) { run_last_forward<decltype(type)>(*a); });
}

inline Status last_backward(const LastArgs* a, Stream stream) {
  return with_type(a->dtype, [&](auto type) { run_last_backward<decltype(type)>(*a, static_cast<Team*>(stream)); });
}

}  // namespace fusedrnn::FUSEDRNN_ISA
