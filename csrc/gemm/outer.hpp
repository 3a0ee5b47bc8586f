// C (M, N) += sum over k of a[k][m] * b[k][n]: the product of weight gradients, k running over (step, row) pairs.
//
// Both operands are tables of row pointers, so gradients of scattered rows (lengths, batch_first, states at resets)
// need no gathering. k goes in blocks of kChunk in order: each block's sum is one ordered chain, added to C. Only rows
// m_first <= m < m_last of C are touched: threads share those out.
//
// Per block a thread packs its columns of A once, [tile][k][pitch], reading each row of A from end to end, then B panel
// by panel; a panel stays in the second-level cache while the tiles of A pass. The lines of C that a tile will add to
// are asked for before its sums begin, for C is larger than the caches near by.
#pragma once

#include "gemm/panels.hpp"
#include "gemm/parallel.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// The columns [first, last) of A as tiles of at most tile_rows of them, shared out evenly.
template <class T>
struct OuterTiles {
  static constexpr int pitch = tile_rows<kOuterVectors>();

  static int64_t tiles_of(int64_t columns) { return (columns + pitch - 1) / pitch; }
  // Elements that a block of k takes, packed.
  static int64_t elements(int64_t columns) { return tiles_of(columns) * pitch * kChunk; }

  int64_t tiles() const { return tiles_of(last - first); }
  int64_t begin(int64_t tile) const { return share(last - first, tiles(), tile); }
  int height(int64_t tile) const { return static_cast<int>(begin(tile + 1) - begin(tile)); }

  // packed[tile][k][r] = a[k][first + begin(tile) + r], a strip of tiles at a time: wide enough to use every cache line
  // of A it touches, narrow enough for the lines it writes, one per tile, to stay in the first-level cache. Rows of A
  // have `width` elements; a tile takes `pitch` of them wherever there are as many, its neighbour's too.
  void pack(const T* const* a, int64_t K, int64_t width) const {
    constexpr int64_t kStrip = 8;
    for (int64_t strip = 0; strip < tiles(); strip += kStrip) {
      const int64_t count = tiles() - strip < kStrip ? tiles() - strip : kStrip;
      int64_t column[kStrip];
      for (int64_t i = 0; i < count; ++i) column[i] = first + begin(strip + i);
      T* const to = packed + strip * K * pitch;
      if (count == kStrip && column[kStrip - 1] + pitch <= width) {
        for (int64_t k = 0; k < K; ++k)
          for (int64_t i = 0; i < kStrip; ++i) copy(to + (i * K + k) * pitch, a[k] + column[i], pitch);
      } else {
        for (int64_t i = 0; i < count; ++i) {
          const int tall = height(strip + i);
          for (int64_t k = 0; k < K; ++k) copy(to + (i * K + k) * pitch, a[k] + column[i], tall);
        }
      }
    }
  }

  // C[m][n] += (or = with `replace`) the sums over K packed rows, m in [first, last), n the `columns` ones that B's
  // panel of `wide` vectors begins with; c points to row `first`.
  void multiply(int64_t K, const T* panel, int wide, int64_t columns, T* c, int64_t ldc, bool replace) const {
    constexpr int N = Lanes<T>::N;
    const int64_t count = tiles();
    for (int64_t i = 0; i < count; ++i) {
      T* const to = c + begin(i) * ldc;
      const int tall = height(i);
      for (int r = 0; r < tall; ++r)
        for (int v = 0; v < wide; ++v) __builtin_prefetch(to + r * ldc + v * N, 1);
      pick_kernel<Outer<T>, kOuterVectors>(tall, wide)(K, packed + i * K * pitch, panel, to, ldc, columns, replace);
    }
  }

  int64_t first, last;
  T* packed;

 private:
  FR_INLINE static void copy(T* to, const T* from, int count) {
    using L = Lanes<T>;
    for (int r = 0; r < count; r += L::N) {
      const int lanes = count - r < L::N ? count - r : L::N;
      L::store(to + r, L::load(from + r, lanes), lanes);
    }
  }
};

// Elements of scratch for one panel of B.
template <class T>
constexpr int64_t outer_panel = kChunk * kOuterVectors * Lanes<T>::N;

// visit(n, wide, columns left) for every panel of a B with N columns, whose rows [0, K) at columns n .. lie in `panel`.
template <class T, class Visit>
void for_outer_panels(const T* const* b, int64_t K, int64_t N, T* panel, const Visit& visit) {
  using L = Lanes<T>;
  const Panels panels = even_panels<kOuterVectors>(vectors_of<T>(N));
  for (int64_t p = 0; p < panels.count; ++p) {
    const int64_t n = panels.begin(p) * L::N, left = N - n;
    const int wide = panels.wide(p);
    T* to = panel;
    for (int64_t k = 0; k < K; ++k, to += wide * L::N)
      for (int v = 0; v < wide; ++v) {
        const int64_t count = left - v * L::N;
        const T* from = b[k] + n + v * L::N;
        L::store(to + v * L::N, count < L::N ? L::load(from, static_cast<int>(count)) : L::load(from));
      }
    visit(n, wide, left);
  }
}

// sum[n] (and also[n], unless null) += sum over k of a[k][n] for n_first <= n < n_last: bias gradients; the same
// blocks, plain additions in order.
template <class T>
void sum_rows(const T* const* a, int64_t K, int64_t n_first, int64_t n_last, T* sum, T* also = nullptr) {
  using L = Lanes<T>;
  constexpr int kStrip = 4;  // vectors at a time: rows lie far apart
  for (int64_t k0 = 0; k0 < K; k0 += kChunk) {
    const int64_t end = K - k0 < kChunk ? K : k0 + kChunk;
    for (int64_t n = n_first; n < n_last; n += kStrip * L::N) {
      typename L::V block[kStrip];
      int count[kStrip];
      for (int v = 0; v < kStrip; ++v) {
        const int64_t left = n_last - n - v * L::N;
        count[v] = static_cast<int>(left <= 0 ? 0 : left < L::N ? left : L::N);
        block[v] = L::zero();
      }
      if (count[kStrip - 1] == L::N) {
        for (int64_t k = k0; k < end; ++k)
          for (int v = 0; v < kStrip; ++v) block[v] = block[v] + L::load(a[k] + n + v * L::N);
      } else {
        for (int64_t k = k0; k < end; ++k)
          for (int v = 0; v < kStrip && count[v] > 0; ++v) block[v] = block[v] + L::load(a[k] + n + v * L::N, count[v]);
      }
      T* const targets[] = {sum, also};
      for (T* const to : targets)
        for (int v = 0; to && v < kStrip && count[v] > 0; ++v)
          L::store(to + n + v * L::N, L::load(to + n + v * L::N, count[v]) + block[v], count[v]);
    }
  }
}

}  // namespace fusedrnn::FUSEDRNN_ISA
