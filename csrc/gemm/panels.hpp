// Columns of a product: how many vectors they fill, and which vectors make which panel.
//
// A panel (BLIS: a micropanel of B) is what one tile of a product meets: NR = wide * N columns, `wide` vectors of N
// lanes. Only whole vectors are padded (with zeros). What column a lane stands for is the packer's business: plain
// matrices use consecutive columns, recurrent weights interleave gates (sequence/pack.hpp). How a panel lies in memory
// is the engine's (engine.hpp).
#pragma once

#include "simd/lanes.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

constexpr int64_t kChunk = 256;  // KC: sums over k, or over rows of a column, are made in chunks of so many

constexpr int64_t kAllColumns = INT64_MAX;  // of a weight gradient's left operand at a time (engine.hpp)

template <class T>
int64_t vectors_of(int64_t columns) {
  return (columns + Lanes<T>::N - 1) / Lanes<T>::N;
}

// Which vectors make which panel. Vectors are shared out evenly, so 13 are 4 3 3 3 and not 4 4 4 1: a tile of few sums
// waits for each of them. Panels that must not be cut elsewhere are all as wide as can be, but for the last one.
struct Panels {
  int64_t vectors, count;
  int64_t width, wider;  // the first `wider` panels have a vector more than `width`

  int64_t begin(int64_t p) const {
    const int64_t vector = p * width + (p < wider ? p : wider);
    return vector < vectors ? vector : vectors;
  }
  int wide(int64_t p) const { return static_cast<int>(begin(p + 1) - begin(p)); }
};

inline Panels even_panels(int64_t vectors, int64_t widest) {
  const int64_t count = (vectors + widest - 1) / widest, some = count > 0 ? count : 1;
  return {vectors, count, vectors / some, vectors % some};
}
inline Panels full_panels(int64_t vectors, int64_t width) { return {vectors, (vectors + width - 1) / width, width, 0}; }

}  // namespace fusedrnn::FUSEDRNN_ISA
