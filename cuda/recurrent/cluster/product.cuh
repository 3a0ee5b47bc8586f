// Products of a part of R with the state of a cluster, fragment by fragment (cluster.cuh).
//
// A fragment of R is 16 bytes a lane, what one turn of a warp takes; one of the state is as deep, over all rows of the
// batch that the cluster has. Sums are float.
#pragma once

#include "products/fma.cuh"
#include "products/mma.cuh"
#include "recurrent/cluster/cluster.hpp"

namespace fusedrnn::cuda {

// ---------------------------------------------------------------------------------------- products by fragments of R
using Held = hw::Vec<uint32_t, 4>;  // a lane's 16 bytes of a fragment

// Two sums of neighbouring rows of the batch, at once.
FR_DEVICE void store_pair(hw::Shared<float> sums, int at, float first, float second) {
  using Pair = hw::Vec<float, 2>;
  hw::recast<Pair>(sums)[at / 2] = Pair{{first, second}};
}

// 16 rows of R by NT tiles of 8 rows of the batch on the tensor cores. One tile alone has two chains of sums, even and
// odd fragments, so that one need not wait for the other.
template <class E, int NT>
struct ClusterMma {
  static constexpr int kRows = 16, kPerWord = 4 / sizeof(E), kDepth = 8 * kPerWord, kChains = NT == 1 ? 2 : 1;
  static constexpr int kStateElements = 8 * NT * kDepth;  // of a fragment of the state
  using Operand = Words<E, 4>;
  using Pair = hw::Vec<uint32_t, 2>;

  float d[kChains][NT][4];

  FR_DEVICE void clear() {
    FR_UNROLL
    for (int c = 0; c < kChains; ++c) {
      FR_UNROLL
      for (int n = 0; n < NT; ++n) {
        FR_UNROLL
        for (int e = 0; e < 4; ++e) d[c][n][e] = 0;
      }
    }
  }

  // This lane's rows of a tile, and its share of a fragment: columns [at, at + kDepth) of which `left` are there.
  static constexpr int kLaneRows = 2;
  FR_DEVICE static int lane_row(int i) { return hw::lane() / 4 + 8 * i; }

  FR_DEVICE static Held gather(const E* const (&rows)[kLaneRows], int64_t at, int64_t left) {
    Held held;
    FR_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int k = (hw::lane() % 4 + i / 2 * 4) * kPerWord;
      const E* const row = rows[i % 2];
      uint32_t word = 0;
      if (row && k < left) word = hw::load_constant(reinterpret_cast<const uint32_t*>(row + at + k));
      if (kPerWord == 2 && k + 1 >= left) word &= 0xffff;  // the row's last value
      held.v[i] = word;
    }
    return held;
  }

  // Where value k of row n is in a state: as operand B of the instruction, a lane's two words together.
  FR_DEVICE static uint32_t place(uint32_t n, uint32_t k) {
    const uint32_t word = k % kDepth / kPerWord, lane = n % 8 * 4 + word % 4;
    return ((k / kDepth * NT + n / 8) * 64 + lane * 2 + word / 4) * kPerWord + k % kPerWord;
  }

  FR_DEVICE static Operand operand(const Held& held) {
    Operand a;
    FR_UNROLL
    for (int i = 0; i < 4; ++i) a.set(i, held.v[i]);
    return a;
  }

  FR_DEVICE void add(const Operand& a, hw::Shared<E> state, int chain) {
    const hw::Shared<Pair> pairs = hw::recast<Pair>(state);
    FR_UNROLL
    for (int n = 0; n < NT; ++n) {
      const Pair pair = pairs[n * hw::kWarp + hw::lane()];
      Words<E, 2> b;
      FR_UNROLL
      for (int i = 0; i < 2; ++i) b.set(i, pair.v[i]);
      mma(d[chain % kChains][n], a, b);
    }
  }

  // index_of(m, n) says where the sum of row m of R by row n goes, an even n at 8 bytes and n + 1 behind it.
  template <class IndexOf>
  FR_DEVICE void store(hw::Shared<float> sums, const IndexOf& index_of) const {
    const int g = hw::lane() / 4, t = hw::lane() % 4;
    FR_UNROLL
    for (int n = 0; n < NT; ++n) {
      FR_UNROLL
      for (int e = 0; e < 4; e += 2) {
        float sum[2];
        FR_UNROLL
        for (int i = 0; i < 2; ++i) {
          sum[i] = d[0][n][e + i];
          if constexpr (kChains == 2) sum[i] = sum[i] + d[1][n][e + i];
        }
        store_pair(sums, index_of(g + e / 2 * 8, 8 * n + 2 * t), sum[0], sum[1]);
      }
    }
  }
};

// 32 rows of R, a lane each, by 8 NT rows of the batch on the ordinary units: chains of fused multiply-adds in the
// order of k. All lanes read the same values of the state.
template <int NT>
struct ClusterFma {
  static constexpr int kRows = 32, kDepth = 4, kStateElements = 8 * NT * kDepth;
  using Operand = Held;
  using Vector = hw::Vec<float, 4>;

  float d[8 * NT];

  FR_DEVICE void clear() {
    FR_UNROLL
    for (int n = 0; n < 8 * NT; ++n) d[n] = 0;
  }

  static constexpr int kLaneRows = 1;
  FR_DEVICE static int lane_row(int) { return hw::lane(); }

  FR_DEVICE static Held gather(const float* const (&rows)[kLaneRows], int64_t at, int64_t left) {
    Vector r;
    FR_UNROLL
    for (int e = 0; e < kDepth; ++e) r.v[e] = rows[0] && e < left ? hw::load_constant(rows[0] + at + e) : 0.0f;
    Held held;
    __builtin_memcpy(&held, &r, sizeof r);
    return held;
  }

  FR_DEVICE static uint32_t place(uint32_t n, uint32_t k) { return (k / kDepth * 8 * NT + n) * kDepth + k % kDepth; }

  FR_DEVICE static Operand operand(const Held& held) { return held; }

  FR_DEVICE void add(const Operand& a, hw::Shared<float> state, int /*chain*/) {
    Vector r;
    __builtin_memcpy(&r, &a, sizeof r);
    const hw::Shared<Vector> vectors = hw::recast<Vector>(state);
    FR_UNROLL
    for (int n = 0; n < 8 * NT; ++n) {
      const Vector h = vectors[n];
      FR_UNROLL
      for (int e = 0; e < kDepth; ++e) d[n] = Lanes<float>::fma(r.v[e], h.v[e], d[n]);
    }
  }

  template <class IndexOf>
  FR_DEVICE void store(hw::Shared<float> sums, const IndexOf& index_of) const {
    FR_UNROLL
    for (int n = 0; n < 8 * NT; n += 2) store_pair(sums, index_of(hw::lane(), n), d[n], d[n + 1]);
  }
};

template <class E, int NT>
struct ClusterEngine {
  using type = ClusterMma<E, NT>;
};
template <int NT>
struct ClusterEngine<float, NT> {
  using type = ClusterFma<NT>;
};

}  // namespace fusedrnn::cuda
