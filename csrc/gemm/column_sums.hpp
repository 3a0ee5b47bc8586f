// Sums over the rows of columns that keep their digits: gradients of biases, over all (step, row) pairs of a batch.
//
// Rows are added plainly in blocks of kPlainRows. A block's sum is then added without loss: what rounding takes from
// `sum` goes to `low` (TwoSum; Knuth 1997, 4.2.2).
#pragma once

#include "simd/lanes.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

constexpr int64_t kPlainRows = 32;

// `columns` of each; every thread has columns of its own.
template <class T>
struct ColumnSums {
  void clear(int64_t first, int64_t last) const {
    for (int64_t n = first; n < last; ++n) sum[n] = low[n] = T(0);
  }

  // sum + low += the sums over k < K of a[k][n], first <= n < last.
  void add(const T* const* a, int64_t K, int64_t first, int64_t last) const {
    constexpr int kStrip = 4;  // vectors at a time: rows lie far apart
    for (int64_t k0 = 0; k0 < K; k0 += kPlainRows) {
      const int64_t end = K - k0 < kPlainRows ? K : k0 + kPlainRows;
      for (int64_t n = first; n < last; n += kStrip * L::N) {
        typename L::V block[kStrip];
        int count[kStrip];
        for (int v = 0; v < kStrip; ++v) {
          const int64_t left = last - n - v * L::N;
          count[v] = static_cast<int>(left <= 0 ? 0 : left < L::N ? left : L::N);
          block[v] = L::zero();
        }
        if (count[kStrip - 1] == L::N) {
          for (int64_t k = k0; k < end; ++k)
            for (int v = 0; v < kStrip; ++v) block[v] = block[v] + L::load(a[k] + n + v * L::N);
        } else {
          for (int64_t k = k0; k < end; ++k)
            for (int v = 0; v < kStrip && count[v] > 0; ++v)
              block[v] = block[v] + L::load(a[k] + n + v * L::N, count[v]);
        }
        for (int v = 0; v < kStrip && count[v] > 0; ++v) add_block(n + v * L::N, count[v], block[v]);
      }
    }
  }

  // Of column n. Where `sum` is not finite what rounding took from it is not a number.
  T total(int64_t n) const { return low[n] == low[n] ? sum[n] + low[n] : sum[n]; }

  T *sum, *low;

 private:
  using L = Lanes<T>;

  void add_block(int64_t n, int count, const typename L::V& block) const {
    const typename L::V before = L::load(sum + n, count), after = before + block;
    const typename L::V taken = after - before;  // of block, as far as it arrived
    L::store(sum + n, after, count);
    L::store(low + n, L::load(low + n, count) + ((before - (after - taken)) + (block - taken)), count);
  }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
