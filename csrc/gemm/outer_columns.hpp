// The columns of a weight gradient's left operand as tiles for a microkernel that reads packed columns.
#pragma once

#include "gemm/microkernel_fma.hpp"
#include "gemm/parallel.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// The columns [first, last) of A as tiles of at most `pitch` of them, shared out evenly.
struct OuterColumns {
  static constexpr int pitch = tile_rows<kWidestPanel>();

  static int64_t tiles_of(int64_t columns) { return (columns + pitch - 1) / pitch; }
  int64_t tiles() const { return tiles_of(last - first); }
  int64_t begin(int64_t tile) const { return share(last - first, tiles(), tile); }
  int height(int64_t tile) const { return static_cast<int>(begin(tile + 1) - begin(tile)); }

  // copy(tile, k, from, count) for the `count` elements of row k of A, at `from`, that a tile takes: a strip of tiles
  // at a time, wide enough to use every cache line of A it touches, narrow enough for the lines it writes, one per
  // tile, to stay in the first-level cache. Rows of A have `width` elements; a tile takes `pitch` of them wherever
  // there are as many, its neighbour's too.
  template <class T, class Copy>
  FR_INLINE void for_strips(const T* const* a, int64_t K, int64_t width, const Copy& copy) const {
    constexpr int64_t kStrip = 8;
    for (int64_t strip = 0; strip < tiles(); strip += kStrip) {
      const int64_t count = tiles() - strip < kStrip ? tiles() - strip : kStrip;
      int64_t column[kStrip];
      for (int64_t i = 0; i < count; ++i) column[i] = first + begin(strip + i);
      if (count == kStrip && column[kStrip - 1] + pitch <= width) {
        for (int64_t k = 0; k < K; ++k)
          for (int64_t i = 0; i < kStrip; ++i) copy(strip + i, k, a[k] + column[i], pitch);
      } else {
        for (int64_t i = 0; i < count; ++i) {
          const int tall = height(strip + i);
          for (int64_t k = 0; k < K; ++k) copy(strip + i, k, a[k] + column[i], tall);
        }
      }
    }
  }

  // Asks for the lines of C, rows of `wide` vectors at `to`, that a tile will add to before its sums begin: C is larger
  // than the caches near by.
  template <class T>
  FR_INLINE static void prefetch_target(T* to, int tall, int wide, int64_t ldc) {
    for (int r = 0; r < tall; ++r)
      for (int v = 0; v < wide; ++v) __builtin_prefetch(to + r * ldc + v * Lanes<T>::N, 1);
  }

  int64_t first, last;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
