// Dropout (Srivastava et al. 2014) of a whole array; the mask is philox.hpp's.
#pragma once

#include "gemm/parallel.hpp"
#include "layers/philox.hpp"
#include "simd/strided.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class T>
void run_dropout(const DropoutArgs& a, Team* team) {
  const Dropout drop = Dropout(a.p, a.key, a.key_at, a.stream).read();
  const int32_t threads = useful_threads(team, 4 * a.count, a.count);
  parallel(team, threads, [&](int32_t t) {
    constexpr int64_t kAtOnce = 1024;
    T buffer[kAtOnce];
    const int64_t end = share(a.count, threads, t + 1);
    for (int64_t i = share(a.count, threads, t); i < end; i += kAtOnce) {
      const int64_t n = end - i < kAtOnce ? end - i : kAtOnce;
      const T* x = elements_of(a.x, i, n, buffer);
      dropout_elements(drop, x, static_cast<T*>(a.y) + i, n, static_cast<uint64_t>(i));
    }
  });
}

inline Status dropout(const DropoutArgs* a, Stream stream) {
  return with_type(a->dtype, [&](auto type) { run_dropout<decltype(type)>(*a, static_cast<Team*>(stream)); });
}

}  // namespace fusedrnn::FUSEDRNN_ISA
