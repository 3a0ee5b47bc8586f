// What the blocks of the plans `cluster` and `grid` have in common: some units with all their gates, a tile of rows of
// the batch, and the sums of their products along k.
#pragma once

#include "cluster.hpp"
#include "walk.cuh"

namespace fusedrnn::cuda {

// `Block` says what its row() and lane() are: its first row of the batch, and which of the arguments' lanes it has.
template <class Block, int NT>
class UnitBlock {
 public:
  static constexpr int kBatch = 8 * NT, kSumPitch = kBatch + 1;

  FR_DEVICE UnitBlock(const ClusterShape& shape, int rank) : shape_(shape), rank_(rank) {}

  FR_DEVICE int rank() const { return rank_; }  // among the blocks of its rows and lane
  FR_DEVICE int64_t unit() const { return static_cast<int64_t>(rank_) * shape_.units; }  // the first
  FR_DEVICE int items() const { return shape_.units * kBatch; }                          // units and rows of a block

  // run(i, n, u, b, unit) for this thread's items: unit u of row n in the block, which is `unit` < units of row b < B.
  // They are the same in every step, so what it keeps of them in shared memory is its own.
  template <class Run>
  FR_DEVICE void each_item(int64_t B, int64_t units, Run&& run) const {
    for (int i = door::thread(); i < items(); i += kClusterThreads) {
      const int n = i / shape_.units, u = i % shape_.units;
      if (row() + n < B && unit() + u < units) run(i, n, u, row() + n, unit() + u);
    }
  }

  // The lengths of the block's rows, 0 past B; there behind the first barrier.
  FR_DEVICE door::Shared<int64_t> lengths(const Walk& walk, int64_t B) const {
    const door::Shared<int64_t> lengths = door::shared<int64_t>(shape_.lengths_at, kBatch);
    for (int n = door::thread(); n < kBatch; n += kClusterThreads)
      lengths[n] = row() + n < B ? walk.length(row() + n) : 0;
    return lengths;
  }

  // The sum of row m of R by batch row n: runs of k are added in order.
  FR_DEVICE float sum(int m, int n) const {
    const door::Shared<float> at = sums() + m * kSumPitch + n;
    float sum = at[0];
    for (int i = 1; i < shape_.splits; ++i) {
      const float part = at[i * shape_.sums_pitch];
      sum = sum + part;
    }
    return sum;
  }

 protected:
  FR_DEVICE int64_t row() const { return static_cast<const Block*>(this)->row(); }
  FR_DEVICE door::Shared<float> sums() const {
    return door::shared<float>(shape_.sums_at, shape_.splits * shape_.sums_pitch);
  }

  const ClusterShape& shape_;
  const int rank_;
};

}  // namespace fusedrnn::cuda
