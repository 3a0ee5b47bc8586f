// Sums over the threads of a warp and of a block: always in the same order, and every thread gets the result.
#pragma once

#include "hw/device.cuh"

namespace fusedrnn::cuda {

// A binary tree: lanes 16 apart first. The same bits in every lane, since addition commutes.
template <class T>
FR_DEVICE T warp_sum(T value) {
  FR_UNROLL
  for (int mask = hw::kWarp / 2; mask > 0; mask /= 2) value = value + hw::shuffle_xor(value, mask);
  return value;
}

template <class T>
FR_DEVICE T warp_max(T value) {
  FR_UNROLL
  for (int mask = hw::kWarp / 2; mask > 0; mask /= 2) {
    const T other = hw::shuffle_xor(value, mask);
    value = other > value ? other : value;
  }
  return value;
}

// Shared memory that the functions below need, from offset 0 on.
template <class T, int Threads>
constexpr size_t kBlockBytes = Threads / hw::kWarp * sizeof(T);

// value of warp 0, then `combine`d with that of warp 1 and so on. All threads of the block call it.
template <int Threads, class T, class Combine>
FR_DEVICE T over_warps(T value, const Combine& combine) {
  constexpr int kWarps = Threads / hw::kWarp;
  const hw::Shared<T> of_warp = hw::shared<T>(0, kWarps);
  hw::barrier();  // what was here before has been read
  if (hw::lane() == 0) of_warp[hw::warp()] = value;
  hw::barrier();
  T result = of_warp[0];
  FR_UNROLL
  for (int w = 1; w < kWarps; ++w) {
    const T other = of_warp[w];
    result = combine(result, other);
  }
  return result;
}

// The sums of the warps, added in order.
template <int Threads, class T>
FR_DEVICE T block_sum(T value) {
  return over_warps<Threads>(warp_sum(value), [](T a, T b) { return a + b; });
}

template <int Threads, class T>
FR_DEVICE T block_max(T value) {
  return over_warps<Threads>(warp_max(value), [](T a, T b) { return b > a ? b : a; });
}

}  // namespace fusedrnn::cuda
