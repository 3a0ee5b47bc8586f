// The protocol by which the blocks of a cluster hand a state round, step after step, with nothing else in the way: each
// computes its slice of the next state from the whole of the last one and sends it to all others. Two buffers, an
// mbarrier each; no barrier of the cluster but the first and none at the end. Whole numbers, so results are exact.
//
//   step s   wait until buffer s % 2 has come   read it   write own slice of buffer (s + 1) % 2   barrier
//            send the slice to the others, announce theirs
//
// A block is one step ahead of another at most: it goes on when it has the other's slice, which the other sends after
// it has read its buffer. So the buffer that a slice is sent to has been read by then.
#pragma once

#include "fixture.hpp"

namespace exchange {

using namespace fixture;

enum class Plant {
  none,
  no_wait,
  wrong_parity,
  one_buffer,
  one_lane_waits,
  no_barrier,
  send_after_last,
  announce_less,
  announce_twice,
  announce_never,
  no_cluster_barrier,
  no_cluster_wait,
  arrive_twice,
  mbarrier_elsewhere,
  mbarrier_unmade,
  mbarrier_written_over,
  mbarrier_read,
  mbarrier_twice,
  past_remote_array,
  misaligned_remote,
  rank_outside,
  send_twice,
  unwritten_remote,
  late_remote,
};

struct Args {
  uint32_t* state;  // (clusters, blocks, kSlice), updated
  int steps;
};

constexpr int kThreads = 32, kSlice = 32;  // numbers of a block
constexpr int kVector = 4, kVectors = kSlice / kVector;

FR_DEVICE uint32_t next(uint32_t own, uint32_t sum) { return own * 3 + sum; }

template <Plant plant>
FR_KERNEL void exchange(const FR_CONSTANT Args a) {
  const auto planted = [](Plant p) { return p == plant; };
  using Vector = Vec<uint32_t, kVector>;
  const int rank = cluster_rank(), blocks = cluster_blocks(), numbers = blocks * kSlice, i = thread();
  const bool culprit = rank == 1 && i == 5;
  const Shared<Mbarrier> full = shared<Mbarrier>(0, 2);
  const Shared<uint32_t> extra = shared<uint32_t>(16, kVector);
  const auto buffer = [&](int step) {
    return shared<uint32_t>(32 + (planted(Plant::one_buffer) ? 0 : step % 2) * numbers * 4, numbers);
  };
  uint32_t* const state = a.state + block_x() / blocks * numbers;

  if (i == 0) {
    for (int k = planted(Plant::mbarrier_unmade) ? 1 : 0; k < 2; ++k) mbarrier_init(full + k, 1);
    if (planted(Plant::mbarrier_twice)) mbarrier_init(full, 1);
  }
  for (int k = i; k < numbers; k += kThreads) buffer(0)[k] = load(state + k);
  if (planted(Plant::no_cluster_barrier)) {
    barrier();
  } else {
    if (!(culprit && planted(Plant::no_cluster_wait))) cluster_arrive();
    if (culprit && planted(Plant::arrive_twice)) cluster_arrive();
    cluster_wait();
  }
  if (culprit && planted(Plant::mbarrier_written_over)) recast<uint32_t>(full)[2] = 0;
  if (culprit && planted(Plant::mbarrier_read)) {
    const uint32_t word = recast<uint32_t>(full)[2];
    store(state, word);
  }
  if (culprit && planted(Plant::unwritten_remote)) store(state, load(remote(extra, 0)));

  uint32_t own = 0;
  for (int s = 0; s < a.steps; ++s) {
    const Shared<uint32_t> before = buffer(s), after = buffer(s + 1);
    // Buffer s % 2 is filled for the k-th time at step 2 k + s % 2; step 0 finds its own.
    if (s > 0 && blocks > 1 && !planted(Plant::no_wait)) {
      const int parity = ((s - 1) / 2 + (planted(Plant::wrong_parity) ? 1 : 0)) % 2;
      if (!planted(Plant::one_lane_waits) || i == 0) mbarrier_wait(full + s % 2, parity);
      if (planted(Plant::one_lane_waits)) (void)shuffle(i, 0);  // the others come later, but nothing orders memory
    }
    uint32_t sum = 0;
    for (int k = 0; k < numbers; ++k) sum += before[k];
    own = before[rank * kSlice + i];
    own = next(own, sum);
    after[rank * kSlice + i] = own;
    if (planted(Plant::no_barrier))
      (void)shuffle(i, 0);
    else
      barrier();
    if (blocks == 1 || (s + 1 == a.steps && !planted(Plant::send_after_last))) continue;
    const Shared<Mbarrier> at = full + (s + 1) % 2;
    if (i == 0 && !(planted(Plant::announce_never) && rank == 1)) {
      mbarrier_arrive_expect(at, (blocks - 1) * kSlice * 4 - (planted(Plant::announce_less) ? 16 : 0));
      if (planted(Plant::announce_twice) && s == 0) mbarrier_arrive_expect(at, 0);
    }
    for (int k = i; k < (blocks - 1) * kVectors; k += kThreads) {
      const int to = (rank + 1 + k / kVectors) % blocks;
      const Shared<Vector> slice = recast<Vector>(after + rank * kSlice);
      const Vector value = slice[k % kVectors];
      const bool bad = culprit && s == 0;
      const int location = bad && planted(Plant::past_remote_array) ? (blocks - rank) * kVectors : k % kVectors;
      const Shared<Vector> target = bad && planted(Plant::misaligned_remote)
                                        ? recast<Vector>(after + rank * kSlice + 2)
                                        : recast<Vector>(after + rank * kSlice) + location;
      const int target_rank = bad && planted(Plant::rank_outside) ? blocks : to;
      const Remote<Mbarrier> target_at = remote(at, bad && planted(Plant::mbarrier_elsewhere) ? (to + 1) % blocks : to);
      for (int times = bad && planted(Plant::send_twice) ? 2 : 1; times > 0; --times)
        store_async(remote(target, target_rank), value, target_at);
    }
  }
  store(state + rank * kSlice + i, own);
  if (planted(Plant::late_remote) && rank == 0) store(remote(extra, 1), own);
}

// Runs clusters of `blocks` and holds the result to plain loops.
template <Plant plant>
Status run(int blocks, int clusters = 2, int steps = 5) {
  const int numbers = blocks * kSlice;
  std::vector<uint32_t> values(clusters * numbers);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint32_t>(i * i + 1);
  void* memory;
  require_ok(alloc(values.size() * 4, &memory));
  require_ok(copy(memory, values.data(), values.size() * 4, nullptr));
  const size_t shared_bytes = 32 + 2 * numbers * 4;
  const Status status = done(launch<exchange<plant>>({{clusters * blocks}, kThreads, shared_bytes, blocks}, nullptr,
                                                     {static_cast<uint32_t*>(memory), steps}));
  if (plant == Plant::none) {
    require_ok(status);
    for (int c = 0; c < clusters; ++c) {
      uint32_t* const state = values.data() + c * numbers;
      for (int s = 0; s < steps; ++s) {
        uint32_t sum = 0;
        for (int k = 0; k < numbers; ++k) sum += state[k];
        for (int k = 0; k < numbers; ++k) state[k] = next(state[k], sum);
      }
    }
    check::require(std::memcmp(memory, values.data(), values.size() * 4) == 0, "the state after %d steps", steps);
  }
  const Status freed = hw::free(memory);  // keeps the text of the failure
  check::require(freed == Status::ok, "%s", status_text());
  return status;
}

}  // namespace exchange
