// The protocol by which the blocks of a cooperative launch hand a state round through global memory, step after step,
// with nothing else in the way: each computes its slice of the next state from the whole of the last one. Two buffers
// and a flag for each block; nobody waits for all. Whole numbers, so results are exact.
//
//   step s   each warp polls the flags of the blocks that it reads for s   reads buffer s % 2   barrier
//            write own slice of buffer (s + 1) % 2   barrier   post s + 1
//
// A block is one step ahead of another at most: it writes state s + 1 when all its warps have read state s, which
// others post after all their warps have read state s - 1. So the buffer that a slice is written to has been read.
#pragma once

#include "fixture.hpp"

namespace handing {

using namespace fixture;

enum class Plant {
  none,
  no_poll,
  one_flag_unpolled,
  epoch_too_low,
  epoch_too_high,
  one_buffer,
  post_before_data,
  no_barrier_before_post,
  no_barrier_after_poll,
  never_posted,
  posted_twice,
};

struct Args {
  uint32_t* values;  // (groups, blocks, kThreads), updated
  uint32_t* memory;  // of each group kFlags flags and two states
  int blocks, steps;
  uint32_t epoch;
};

constexpr int kWarps = 2, kThreads = kWarps * kWarp, kFlags = 32;

constexpr int numbers_of(int blocks) { return kFlags + 2 * blocks * kThreads; }

FR_DEVICE uint32_t next(uint32_t own, uint32_t sum) { return own * 3 + sum; }

template <Plant plant>
FR_KERNEL void hand_on(const FR_CONSTANT Args a) {
  const auto planted = [](Plant p) { return p == plant; };
  const int rank = static_cast<int>(block_x() % a.blocks), i = thread();
  uint32_t* const flags = a.memory + block_x() / a.blocks * numbers_of(a.blocks);
  const auto state = [&](int step) {
    return flags + kFlags + (planted(Plant::one_buffer) ? 0 : step % 2) * a.blocks * kThreads;
  };
  const Shared<uint32_t> sums = shared<uint32_t>(0, kThreads);
  const auto post = [&](int step) {
    if (i > 0 || (planted(Plant::never_posted) && rank == 1 && step == 1)) return;
    flag_post(flags + rank, a.epoch + step);
    if (planted(Plant::posted_twice)) flag_post(flags + rank, a.epoch + step);
  };
  const auto hand = [&](int step, uint32_t own) {
    if (planted(Plant::post_before_data)) post(step);
    store(state(step) + rank * kThreads + i, own);
    if (!planted(Plant::no_barrier_before_post)) barrier();
    if (!planted(Plant::post_before_data)) post(step);
    if (planted(Plant::no_barrier_before_post)) barrier();
  };

  uint32_t own = load(a.values + block_x() * kThreads + i);
  hand(0, own);
  for (int s = 0; s < a.steps; ++s) {
    const uint32_t epoch =
        a.epoch + s + (planted(Plant::epoch_too_high) ? 1 : 0) - (planted(Plant::epoch_too_low) ? 1 : 0);
    for (int q = warp() + kWarps * lane(); q < a.blocks; q += kThreads) {
      if (planted(Plant::no_poll) || (planted(Plant::one_flag_unpolled) && rank == 1 && q == 0)) continue;
      flag_poll(flags + q, epoch);
    }
    if (planted(Plant::no_barrier_after_poll))
      (void)shuffle(i, 0);  // the others come later, but nothing orders memory
    else
      warp_barrier();
    uint32_t sum = 0;
    for (int q = warp(); q < a.blocks; q += kWarps)
      for (int k = lane(); k < kThreads; k += kWarp) sum += load(state(s) + q * kThreads + k);
    sums[i] = sum;
    barrier();
    sum = 0;
    for (int k = 0; k < kThreads; ++k) sum += sums[k];
    own = next(own, sum);
    if (s + 1 < a.steps) hand(s + 1, own);
  }
  store(a.values + block_x() * kThreads + i, own);
}

enum class Found { nothing, wrong_numbers, failure };

// How launches of one pass are made.
struct How {
  int blocks = 3, groups = 2, steps = 5, launches = 1;
  bool cooperative = true, cleared = true, epochs_grow = true;
};

inline size_t memory_bytes(const How& how) {
  return static_cast<size_t>(how.groups) * numbers_of(how.blocks) * sizeof(uint32_t);
}

// What a pass puts into a stream.
template <Plant plant>
Status put(const How& how, uint32_t* values, uint32_t* memory, Stream on) {
  Status status = how.cleared ? fill(memory, 0, memory_bytes(how), on) : Status::ok;
  for (int n = 0; n < how.launches && status == Status::ok; ++n) {
    const uint32_t epoch = how.epochs_grow ? n * (how.steps + 1) + 1 : 1;
    Grid grid{{how.groups * how.blocks}, kThreads, kThreads * 4};
    grid.cooperative = how.cooperative;
    status = launch<hand_on<plant>>(grid, on, {values, memory, how.blocks, how.steps, epoch});
  }
  return status;
}

inline std::vector<uint32_t> first_values(const How& how) {
  std::vector<uint32_t> values(how.groups * how.blocks * kThreads);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint32_t>(i * i + 1);
  return values;
}

// By plain loops.
inline std::vector<uint32_t> last_values(const How& how, int passes) {
  std::vector<uint32_t> values = first_values(how);
  const int numbers = how.blocks * kThreads;
  for (int g = 0; g < how.groups; ++g) {
    uint32_t* const group = values.data() + g * numbers;
    for (int s = 0; s < passes * how.launches * how.steps; ++s) {
      uint32_t sum = 0;
      for (int k = 0; k < numbers; ++k) sum += group[k];
      for (int k = 0; k < numbers; ++k) group[k] = next(group[k], sum);
    }
  }
  return values;
}

// Runs a pass and compares what comes of it.
template <Plant plant>
Found run(const How& how) {
  const Device<uint32_t> values(first_values(how)), memory(memory_bytes(how) / sizeof(uint32_t));
  if (done(put<plant>(how, values.data(), memory.data(), nullptr)) != Status::ok) return Found::failure;
  return values.values() == last_values(how, 1) ? Found::nothing : Found::wrong_numbers;
}

}  // namespace handing
