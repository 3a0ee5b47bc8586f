// Two kernels that overlap: the second prepares, waits for the first, and goes on from what that has written. Each
// fault that can be planted in the second is one that a device may forgive for years.
#pragma once

#include "fixture.hpp"

namespace overlap {

using namespace fixture;

constexpr int kThreads = 64, kBlocks = 3, kCount = kThreads * kBlocks;

enum class Plant { none, read_early, copy_early, write_early, store_early, begin_early, no_wait };

struct Args {
  const float* factor;  // there before both
  const float* state;   // of the kernel before
  float* next;
};

template <Plant plant>
FR_KERNEL void turn(const FR_CONSTANT Args a) {
  const int i = static_cast<int>(block_x()) * kThreads + thread(), from = kCount - 1 - i;
  Shared<float> copied = shared<float>(0, kThreads);
  const float factor = a.factor[i];
  float state = 0;
  if (plant == Plant::read_early) state = a.state[from];
  if (plant == Plant::copy_early) copy_async4(copied + thread(), a.state + from);
  if (plant == Plant::write_early) const_cast<float*>(a.state)[from] = -1;
  if (plant == Plant::store_early) store(a.next + i, factor);
  if (plant == Plant::begin_early) launch_dependents();
  if (plant != Plant::no_wait) {
    wait_on_dependency();
    launch_dependents();
  }
  if (plant != Plant::read_early && plant != Plant::copy_early) copy_async4(copied + thread(), a.state + from);
  commit_copies();
  wait_copies<0>();
  if (plant != Plant::read_early) state = copied[thread()];
  a.next[i] = factor + state;
}

// A chain of kernels, the first alone. What the last one has written, and what it should have.
template <Plant plant>
Status run(std::vector<float>* got, std::vector<float>* expected) {
  constexpr int kSteps = 4;
  std::vector<float> factor(kCount), state(kCount);
  for (int i = 0; i < kCount; ++i) {
    factor[i] = static_cast<float>(i);
    state[i] = static_cast<float>(i % 7);
  }
  Device<float> factors(factor), first(state), second(kCount);
  *expected = state;
  Status status = Status::ok;
  for (int step = 0; step < kSteps && status == Status::ok; ++step) {
    const std::vector<float> before = *expected;
    for (int i = 0; i < kCount; ++i) (*expected)[i] = factor[i] + before[kCount - 1 - i];
    Grid grid{{kBlocks}, kThreads, sizeof(float) * kThreads};
    grid.overlaps = step > 0;
    const Args args = step % 2 == 0 ? Args{factors.data(), first.data(), second.data()}
                                    : Args{factors.data(), second.data(), first.data()};
    status = step == 0 ? launch<turn<Plant::none>>(grid, nullptr, args) : launch<turn<plant>>(grid, nullptr, args);
  }
  status = done(status);
  if (status == Status::ok) *got = first.values();
  return status;
}

}  // namespace overlap
