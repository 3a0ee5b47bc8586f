// Products of a part of R with the state of a group of blocks, fragment by fragment (grid/block.cuh): as in a cluster
// on the tensor cores, and with fewer rows and more of k at once on the ordinary units, where a block has few units.
#pragma once

#include "recurrent/cluster/product.cuh"

namespace fusedrnn::cuda {

template <class E, int NT>
struct GridMma : ClusterMma<E, NT> {
  FR_DEVICE static int lane_k() { return 0; }  // where in a fragment what a lane gathers begins
};

// 8 rows of R by 8 NT rows of the batch. Four lanes share a row, each has 4 of a fragment's 16 values of k; their sums
// are added at the end.
template <int NT>
struct GridFma {
  static constexpr int kRows = 8, kDepth = 16, kStateElements = 8 * NT * kDepth, kLanes = 4;
  using Operand = Held;
  using Vector = hw::Vec<float, 4>;

  float d[8 * NT];

  FR_DEVICE void clear() {
    FR_UNROLL
    for (int n = 0; n < 8 * NT; ++n) d[n] = 0;
  }

  static constexpr int kLaneRows = 1;
  FR_DEVICE static int lane_row(int) { return hw::lane() / kLanes; }
  FR_DEVICE static int lane_k() { return hw::lane() % kLanes * 4; }
  FR_DEVICE static Held gather(const float* const (&rows)[kLaneRows], int64_t at, int64_t left) {
    return ClusterFma<NT>::gather(rows, at, left);
  }

  FR_DEVICE static uint32_t place(uint32_t n, uint32_t k) { return (k / kDepth * 8 * NT + n) * kDepth + k % kDepth; }

  FR_DEVICE static Operand operand(const Held& held) { return held; }

  FR_DEVICE void add(const Operand& a, hw::Shared<float> state, int /*chain*/) {
    Vector r;
    __builtin_memcpy(&r, &a, sizeof r);
    const hw::Shared<Vector> vectors = hw::recast<Vector>(state) + hw::lane() % kLanes;
    FR_UNROLL
    for (int n = 0; n < 8 * NT; ++n) {
      const Vector h = vectors[n * kLanes];
      FR_UNROLL
      for (int e = 0; e < 4; ++e) d[n] = Lanes<float>::fma(r.v[e], h.v[e], d[n]);
    }
  }

  template <class IndexOf>
  FR_DEVICE void store(hw::Shared<float> sums, const IndexOf& index_of) const {
    FR_UNROLL
    for (int n = 0; n < 8 * NT; ++n) {
      float sum = d[n];
      sum = sum + hw::shuffle_xor(sum, 1);
      sum = sum + hw::shuffle_xor(sum, 2);
      if (n % kLanes == hw::lane() % kLanes) sums[index_of(lane_row(0), n)] = sum;
    }
  }
};

template <class E, int NT>
struct GridEngine {
  using type = GridMma<E, NT>;
};
template <int NT>
struct GridEngine<float, NT> {
  using type = GridFma<NT>;
};

}  // namespace fusedrnn::cuda
