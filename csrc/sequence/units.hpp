// How steps read and write the units of a row.
#pragma once

#include <stdint.h>

#include "simd/lanes.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// A vector of a row's units, of which the last of H may be fewer.
template <class T, class L = Lanes<T>>
FR_INLINE typename L::V load_units(const T* from, int64_t unit, int64_t H) {
  return H - unit >= L::N ? L::load(from + unit) : L::load(from + unit, static_cast<int>(H - unit));
}
template <class T, class L = Lanes<T>>
FR_INLINE void store_units(T* to, int64_t unit, int64_t H, typename L::V v) {
  H - unit >= L::N ? L::store(to + unit, v) : L::store(to + unit, v, static_cast<int>(H - unit));
}

}  // namespace fusedrnn::FUSEDRNN_ISA
