// N registers of N elements as a matrix, transposed: blocks of 1, 2, 4 .. N / 2 off the diagonal change places.
#pragma once

#include "simd/lanes.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class T, int S = 1>
FR_INLINE void transpose(typename Lanes<T>::V (&row)[Lanes<T>::N]) {
  if constexpr (S < Lanes<T>::N) {
#pragma GCC unroll 16
    for (int i = 0; i < Lanes<T>::N; ++i)
      if (!(i & S)) Lanes<T>::template exchange<S>(row[i], row[i + S]);
    transpose<T, 2 * S>(row);
  }
}

}  // namespace fusedrnn::FUSEDRNN_ISA
