// How steps read and write the units of a row.
#pragma once

#include <stdint.h>

#include "simd/lanes.hpp"
#include "simd/streaming.hpp"

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

// Bytes of a layer's gates from which on forward stores them, and y, past the caches: backward finds nothing of them
// near by in any case, and what they would push out are the weights.
constexpr int64_t kStreamedTape = 8 << 20;

// Whether rows `stride0` and `stride1` elements apart from `data` on begin with a line, all of them.
template <class T>
bool on_lines(const void* data, int64_t stride0, int64_t stride1) {
  constexpr int64_t line = 64 / sizeof(T);
  return reinterpret_cast<uintptr_t>(data) % 64 == 0 && stride0 % line == 0 && stride1 % line == 0;
}

}  // namespace fusedrnn::FUSEDRNN_ISA
