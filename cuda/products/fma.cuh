// A warp's share of a product on the ordinary units, float or double: 4 x 8 lanes of TM x TN sums each.
//
// Each sum is one chain of fused multiply-adds in the order of k. How lanes are dealt out depends on how a tile lies in
// shared memory, so that its 16-byte reads meet no bank twice: where k is contiguous, neighbouring lanes take
// neighbouring rows (tile.cuh has their order); where rows are, each lane takes 16 bytes of them.
#pragma once

#include "math.cuh"
#include "products/tile.cuh"

namespace fusedrnn::cuda {

// sum + a b for code without an engine: a fused multiply-add, of tf32x3 one for each of its three products.
template <class E>
FR_DEVICE Accumulator<E> add_product(Accumulator<E> sum, E a, E b) {
  using C = Accumulator<E>;
  if constexpr (std::is_same_v<E, Tf32x3>) {
    const C big_a = widen(narrow<Tf32>(a.value)), big_b = widen(narrow<Tf32>(b.value));
    sum = Lanes<C>::fma(a.value - big_a, big_b, sum);
    sum = Lanes<C>::fma(big_a, b.value - big_b, sum);
    return Lanes<C>::fma(big_a, big_b, sum);
  } else {
    return Lanes<C>::fma(widen(a), widen(b), sum);
  }
}

template <class E, int TM, int TN>
struct Fma {
  using Storage = E;
  using C = E;
  static constexpr int kLanesM = 4, kLanesN = 8;
  static constexpr int kRows = kLanesM * TM, kColumns = kLanesN * TN;  // of a warp
  static constexpr int V = 16 / sizeof(E);
  static constexpr bool kRegistersLeft = false;  // with one group along k
  using Vector = hw::Vec<E, V>;

  // Of a buffer's four vectors of k; with 64 sums registers have no room for the addresses of two such operands.
  template <Major MA, Major MB>
  static constexpr int kUnrolled = MA == Major::k && MB == Major::k && TM * TN == 64 ? 2 : kDepth<E> / V;

  C acc[TM][TN];

  FR_DEVICE void clear() {
    FR_UNROLL
    for (int i = 0; i < TM; ++i) {
      FR_UNROLL
      for (int j = 0; j < TN; ++j) acc[i][j] = 0;
    }
  }

  // Where the i-th of a lane's rows (or columns) is, `lane` counting along this axis.
  template <Major M, int Lanes>
  FR_DEVICE static int place(int lane, int i) {
    return M == Major::k ? lane + Lanes * i : V * (lane + Lanes * (i / V)) + i % V;
  }

  // V values of k for each of a lane's rows.
  template <Major M, int Lanes, int N, int Pitch>
  FR_DEVICE static void fetch(hw::Shared<E> tile, int lane, int k, C (&out)[N][V]) {
    const hw::Shared<Vector> vectors = hw::recast<Vector>(tile);
    if constexpr (M == Major::k) {
      FR_UNROLL
      for (int i = 0; i < N; ++i) {
        const int row = Lanes * i;  // and `lane`: no bit is in both, so few addresses are not constants apart
        const Vector v = vectors[(place_of<E>(lane, (k / V) ^ (row >> 1 & 3)) + row * kDepth<E>) / V];
        FR_UNROLL
        for (int e = 0; e < V; ++e) out[i][e] = v.v[e];
      }
    } else {
      static_assert(N % V == 0, "whole vectors of rows");
      FR_UNROLL
      for (int e = 0; e < V; ++e) {
        FR_UNROLL
        for (int i = 0; i < N; i += V) {
          const Vector v = vectors[((k + e) * Pitch + place<M, Lanes>(lane, i)) / V];
          FR_UNROLL
          for (int r = 0; r < V; ++r) out[i + r][e] = v.v[r];
        }
      }
    }
  }

  // acc += A B over the kDepth values of k that two tiles hold; both begin at the warp's first row.
  template <Major MA, Major MB, int PitchA, int PitchB>
  FR_DEVICE void accumulate(hw::Shared<E> a, hw::Shared<E> b) {
    const int lane_m = hw::lane() / kLanesN, lane_n = hw::lane() % kLanesN;
    FR_UNROLL_BY((kUnrolled<MA, MB>))
    for (int k = 0; k < kDepth<E>; k += V) {
      C x[TM][V], y[TN][V];
      fetch<MA, kLanesM, TM, PitchA>(a, lane_m, k, x);
      fetch<MB, kLanesN, TN, PitchB>(b, lane_n, k, y);
      FR_UNROLL
      for (int e = 0; e < V; ++e) {
        FR_UNROLL
        for (int j = 0; j < TN; ++j) {
          FR_UNROLL
          for (int i = 0; i < TM; ++i) acc[i][j] = Lanes<C>::fma(x[i][e], y[j][e], acc[i][j]);
        }
      }
    }
  }

  template <Major MA, Major MB, int Pitch>
  FR_DEVICE void store(hw::Shared<C> sums) const {
    const int lane_m = hw::lane() / kLanesN, lane_n = hw::lane() % kLanesN;
    FR_UNROLL
    for (int i = 0; i < TM; ++i) {
      const int row = place<MA, kLanesM>(lane_m, i) * Pitch;
      if constexpr (MB == Major::k) {
        FR_UNROLL
        for (int j = 0; j < TN; ++j) sums[row + place<MB, kLanesN>(lane_n, j)] = acc[i][j];
      } else {
        FR_UNROLL
        for (int j = 0; j < TN; j += V) {
          Vector v;
          FR_UNROLL
          for (int e = 0; e < V; ++e) v.v[e] = acc[i][j + e];
          hw::recast<Vector>(sums)[(row + place<MB, kLanesN>(lane_n, j)) / V] = v;
        }
      }
    }
  }
};

}  // namespace fusedrnn::cuda
