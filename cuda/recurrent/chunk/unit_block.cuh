// What the blocks of the plans `cluster` and `grid` have in common: some units with all their gates, a tile of rows of
// the batch, and the sums of their products along k.
#pragma once

#include "recurrent/cluster/cluster.hpp"
#include "recurrent/walk.cuh"

namespace fusedrnn::cuda {

// Divides by a number that is the same all the time, by a multiplication: exact as long as n * divisor < 2^31.
class Divider {
 public:
  FR_DEVICE explicit Divider(int divisor)
      : share_(hw::keep(((uint32_t{1} << 31) + static_cast<uint32_t>(divisor) - 1) / static_cast<uint32_t>(divisor))) {}
  FR_DEVICE int quotient(int n) const {
    return static_cast<int>(static_cast<uint64_t>(static_cast<uint32_t>(n)) * share_ >> 31);
  }

 private:
  const uint32_t share_;
};

// `Block` says what its row() and lane() are: its first row of the batch, and which of the arguments' lanes it has.
// kTogether divides a block's units: so many neighbours of a row are items side by side, then come those of the next
// row. They fill whole sectors of global memory (half of one in ieee), and no division is needed to find them.
template <class Block, int NT, int kTogether>
class UnitBlock {
 public:
  static constexpr int kBatch = 8 * NT;

  FR_DEVICE UnitBlock(const ClusterShape& shape, int rank) : shape_(shape), rank_(rank) {}

  FR_DEVICE int rank() const { return rank_; }  // among the blocks of its rows and lane
  FR_DEVICE int64_t unit() const { return static_cast<int64_t>(rank_) * shape_.units; }  // the first
  FR_DEVICE int items() const { return shape_.units * kBatch; }                          // units and rows of a block

  // run(i, n, u, b, unit) for this thread's items: unit u of row n in the block, which is `unit` < units of row b < B.
  // They are the same in every step, so what it keeps of them in shared memory is its own.
  template <class Run>
  FR_DEVICE void each_item(int64_t B, int64_t units, Run&& run) const {
    for (int i = hw::thread(); i < items(); i += kClusterThreads) item(i, B, units, run);
  }

  // The same for the first of them alone.
  template <class Run>
  FR_DEVICE void first_item(int64_t B, int64_t units, Run&& run) const {
    if (hw::thread() < items()) item(hw::thread(), B, units, run);
  }

  // The lengths of the block's rows, 0 past B; there behind the first barrier.
  FR_DEVICE hw::Shared<int64_t> lengths(const Walk& walk, int64_t B) const {
    const hw::Shared<int64_t> lengths = hw::shared<int64_t>(shape_.lengths_at, kBatch);
    for (int n = hw::thread(); n < kBatch; n += kClusterThreads)
      lengths[n] = row() + n < B ? walk.length(row() + n) : 0;
    return lengths;
  }

  // Where the sum of row m of R by batch row n lies among those of a run of k: rows of kBatch, in which n is mixed with
  // m. So a warp meets no bank twice, be it when it stores, pairs of n in 8 rows or in each lane's own, or when it
  // reads, kTogether units of 32 / kTogether rows.
  FR_DEVICE static int sum_place(int m, int n) {
    const int mixed = (m & 3) * NT / 4 * 8 + (m & 4) + (kTogether == 8 ? 0 : m >> 2 & 2);
    return m * kBatch + (n ^ mixed);
  }

  // The sums of rows u, units + u, ... of R by batch row n: runs of k are added in order.
  template <int G>
  FR_DEVICE void sum(int u, int n, float (&out)[G]) const {
    // From 8 units on all gates mix n alike.
    constexpr bool kAlike = kTogether >= 8;
    const int gate = shape_.units * kBatch;
    hw::Shared<float> at = sums() + (kAlike ? sum_place(u, n) : 0);
    const auto place = [&](int g) { return kAlike ? g * gate : sum_place(g * shape_.units + u, n); };
    FR_UNROLL
    for (int g = 0; g < G; ++g) out[g] = at[place(g)];
    FR_UNROLL_BY(1)
    for (int i = 1; i < shape_.splits; ++i) {
      at += shape_.sums_pitch;
      FR_UNROLL
      for (int g = 0; g < G; ++g) {
        const float part = at[place(g)];
        out[g] = out[g] + part;
      }
    }
  }

 protected:
  FR_DEVICE int64_t row() const { return static_cast<const Block*>(this)->row(); }

  // Row and unit of item i.
  FR_DEVICE static int row_of_item(uint32_t i) { return static_cast<int>(i / kTogether % kBatch); }
  FR_DEVICE static int unit_of_item(uint32_t i) {
    return static_cast<int>(i / (kTogether * kBatch) * kTogether + i % kTogether);
  }

  template <class Run>
  FR_DEVICE void item(int i, int64_t B, int64_t units, const Run& run) const {
    const int64_t b0 = row(), u0 = unit();
    const int rows = B - b0 < kBatch ? static_cast<int>(B - b0) : kBatch;
    const int own = units - u0 < shape_.units ? static_cast<int>(units - u0) : shape_.units;
    const int n = row_of_item(i), u = unit_of_item(i);
    if (n < rows && u < own) run(i, n, u, b0 + n, u0 + u);
  }
  FR_DEVICE hw::Shared<float> sums() const {
    return hw::shared<float>(shape_.sums_at, shape_.splits * shape_.sums_pitch);
  }

  const ClusterShape& shape_;
  const int rank_;
};

}  // namespace fusedrnn::cuda
