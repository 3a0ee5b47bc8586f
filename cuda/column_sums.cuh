// Sums over many rows for columns that lie side by side: a block has 8 columns, and each of its 1024 threads adds every
// 128th row of one of them in order. That many threads are what hides the time that a row takes to come; the rows of 8
// columns are whole sectors of 32 bytes in float32.
#pragma once

#include "sum.cuh"

namespace fusedrnn::cuda {

constexpr int kSumColumns = 8, kSumThreads = 1024, kSumGroups = kSumThreads / kSumColumns;
constexpr int kSumPitch =
    kSumThreads / hw::kWarp + 1;  // of a column's sums in shared memory: lanes in banks of their own

template <class C>
constexpr size_t kColumnSumBytes = kSumColumns * kSumPitch * sizeof(C);

FR_DEVICE int64_t summed_column() { return hw::block_x() * kSumColumns + hw::thread() % kSumColumns; }
FR_DEVICE int sum_group() { return hw::thread() / kSumColumns; }

// Adds the threads' sums, those of a column as a binary tree: warps w below kSumColumns get that of column w of the
// block. All threads of the block call it, as often as they like.
template <class C>
FR_DEVICE C add_groups(C sum) {
  FR_UNROLL
  for (int mask = kSumColumns; mask < hw::kWarp; mask *= 2) sum = sum + hw::shuffle_xor(sum, mask);
  const hw::Shared<C> of_warp = hw::shared<C>(0, kSumColumns * kSumPitch);
  hw::barrier();  // what was here before has been read
  if (hw::lane() < kSumColumns) of_warp[hw::lane() * kSumPitch + hw::warp()] = sum;
  hw::barrier();
  if (hw::warp() >= kSumColumns) return 0;
  const C mine = of_warp[hw::warp() * kSumPitch + hw::lane()];
  return warp_sum(mine);
}

}  // namespace fusedrnn::cuda
