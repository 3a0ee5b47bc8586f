// Clusters on the emulator: right kernels give right results under any schedule, and each fault planted in the exchange
// of a state (exchange.hpp) is found and named.
#include "exchange.hpp"

namespace {

using namespace exchange;

struct Ranks {
  int32_t* out;  // (blocks, 2)
};

FR_KERNEL void ranks(const FR_CONSTANT Ranks a) {
  const int64_t block = (block_z() * blocks_y() + block_y()) * blocks_x() + block_x();
  if (thread() > 0) return;
  store(a.out + 2 * block, static_cast<int32_t>(cluster_rank()));
  store(a.out + 2 * block + 1, static_cast<int32_t>(cluster_blocks()));
}

void every_block_knows_its_rank() {
  for (const int size : {1, 2, 3, 16}) {
    Device<int32_t> out(2 * 2 * size * 3 * 2);
    require_ok(launch<ranks>({{2 * size, 3, 2}, 32, 0, size}, nullptr, {out.data()}));
    for (int i = 0; i < 2 * size * 3 * 2; ++i)
      check::require(out.values()[2 * i] == i % size && out.values()[2 * i + 1] == size, "rank of block %d", i);
  }
}

// Each block writes into the next one and reads what the one before wrote; then a cluster's threads arrive at an
// mbarrier of block 0, from afar.
struct Ring {
  double* out;
};

template <class T>
FR_DEVICE T ring(int64_t offset, T value) {
  const int next = (cluster_rank() + 1) % cluster_blocks(),
            last = (cluster_rank() + cluster_blocks() - 1) % cluster_blocks();
  const Shared<T> mine = shared<T>(offset, threads()), theirs = shared<T>(offset + 32 * 16, threads());
  mine[thread()] = value;
  cluster_arrive();
  cluster_wait();
  const T read = load(remote(mine, last) + thread());
  store(remote(theirs, next) + thread(), read);
  cluster_arrive();
  cluster_wait();
  return theirs[thread()];
}

FR_KERNEL void rings(const FR_CONSTANT Ring a) {
  const Shared<Mbarrier> m = shared<Mbarrier>(0, 1);
  if (thread() == 0) mbarrier_init(m, threads() * cluster_blocks());
  const double value = cluster_rank() * 100 + thread();
  const double wide = ring<double>(16, value);
  const float narrow = ring<float>(16, static_cast<float>(value));
  const Vec<float, 4> four = ring<Vec<float, 4>>(16, {{narrow, 1, 2, 3}});
  mbarrier_arrive(remote(m, 0));
  if (cluster_rank() == 0) mbarrier_wait(m, 0);
  const int rank = (cluster_rank() + 2 * cluster_blocks() - 2) % cluster_blocks();
  const double before = rank * 100 + thread();
  const int twice = (rank + 2 * cluster_blocks() - 2) % cluster_blocks();
  store(a.out + block_x() * threads() + thread(),
        wide == before && four.v[0] == twice * 100 + thread() && four.v[3] == 3 ? 1.0 : narrow);
  cluster_arrive();  // nobody returns before all arrivals have come
  cluster_wait();
}

void remote_loads_stores_and_arrivals() {
  under_schedules(10, [] {
    Device<double> out(2 * 5 * 32);
    require_ok(launch<rings>({{10}, 32, 16 + 2 * 32 * 16, 5}, nullptr, {out.data()}));
    for (const double ok : out.values()) check::require(ok == 1, "a number went astray");
  });
}

void right_exchanges() {
  under_schedules(10, [] {
    for (const int blocks : {1, 2, 3, 8}) require_ok(run<Plant::none>(blocks));
  });
  require_ok(run<Plant::none>(16));
}

void planted_faults() {
  under_schedules(10, [] {
    const char* const too_early = "reads 4 bytes of shared memory at byte";
    const char* const culprit = "block (1, 0, 0), thread 5: ";
    require_fault(run<Plant::no_wait>(3, 1), {too_early});
    require_fault(run<Plant::wrong_parity>(3, 1), {too_early});
    require_fault(run<Plant::send_after_last>(3, 1), {"of its cluster", "return"});
    // The phase ends before the last bytes have come.
    require_fault(run<Plant::announce_less>(3, 1), {too_early});
    require_fault(run<Plant::announce_never>(3, 1),
                  {"waits for ever at mbarrier_wait()", "misses 1 of 1 arrivals and -256 bytes"});
    require_fault(run<Plant::announce_twice>(3, 1),
                  {"arrives at the mbarrier at byte 8, at which all 1 have arrived in phase 0"});
    require_fault(run<Plant::no_cluster_barrier>(3, 1),
                  {"of its cluster before the cluster has met: it may not have begun"});
    require_fault(run<Plant::no_cluster_wait>(3, 1),
                  {culprit, "waits at the cluster's barrier without having arrived"});
    require_fault(run<Plant::arrive_twice>(3, 1), {culprit, "arrives at the cluster's barrier twice"});
    require_fault(run<Plant::mbarrier_elsewhere>(3, 1),
                  {culprit, "stores to block 2 of its cluster and counts at an mbarrier of block 0"});
    require_fault(run<Plant::mbarrier_unmade>(3, 1),
                  {"uses byte 0 of shared memory of block", "as an mbarrier: none was made there"});
    require_fault(run<Plant::mbarrier_written_over>(3, 1),
                  {"uses byte 8 of shared memory of block 1", "or it was written over"});
    require_fault(run<Plant::mbarrier_read>(3, 1),
                  {culprit, "reads 4 bytes of shared memory at byte 8, where an mbarrier is"});
    require_fault(run<Plant::mbarrier_twice>(3, 1), {"thread 0: makes a second mbarrier at byte 0"});
    require_fault(run<Plant::past_remote_array>(3, 1), {culprit,
                                                        "accesses 16 bytes of shared memory of block 2 of its cluster "
                                                        "at byte 800, outside its array of bytes 416 to 800"});
    require_fault(run<Plant::misaligned_remote>(3, 1), {culprit, "of block 2 of its cluster at byte 552, not aligned"});
    require_fault(run<Plant::rank_outside>(3, 1), {culprit, "reaches for block 3 of a cluster of 3"});
    require_fault(run<Plant::send_twice>(3, 1),
                  {culprit, "of block 2 of its cluster, where something is on its way already"});
    require_fault(run<Plant::unwritten_remote>(3, 1), {culprit, "reads 4 bytes", "which nobody has written"});
  });
}

// Is one of the schedules such that the launch fails with these words?
template <class Launch>
void require_fault_under_some_schedule(const char* words, Launch launch) {
  bool found = false;
  under_schedules(20, [&] { found |= done(launch()) != Status::ok && std::strstr(status_text(), words) != nullptr; });
  check::require(found, "\"%s\" was said under no schedule", words);
}

void planted_faults_of_order() {
  require_fault_under_some_schedule("accesses shared memory of block 1 of its cluster, which has returned",
                                    [] { return run<Plant::late_remote>(3, 1); });
  require_fault_under_some_schedule("is the last of its block to return, and 16 bytes of block",
                                    [] { return run<Plant::send_after_last>(3, 1); });
  require_fault_under_some_schedule(
      "where an asynchronous copy is under way: no wait_copies() came in between, nor mbarrier_wait()",
      [] { return run<Plant::one_buffer>(3, 1); });
}

// A thread that polls for the end of a phase can miss it once the next has ended too.
FR_KERNEL void missed_phase(const FR_CONSTANT Ring) {
  const Shared<Mbarrier> m = shared<Mbarrier>(0, 1);
  if (thread() == 0) mbarrier_init(m, 1);
  cluster_arrive();
  cluster_wait();
  if (thread() == 31) {
    mbarrier_wait(m, 0);
  } else if (thread() == 0) {
    mbarrier_arrive(remote(m, 0));
    mbarrier_arrive(remote(m, 0));
  }
}

FR_KERNEL void half_a_cluster(const FR_CONSTANT Ring) {
  if (cluster_rank() == 1 && thread() == 7) return;
  cluster_arrive();
  cluster_wait();
}

void lone_faults() {
  require_fault_under_some_schedule("sees too late that phase 0 has ended: phase 1 has as well",
                                    [] { return launch<missed_phase>({{1}, 32, 8}, nullptr, {nullptr}); });
  under_schedules(10, [] {
    require_fault(
        launch<half_a_cluster>({{2}, 32, 0, 2}, nullptr, {nullptr}),
        {"waits for ever at cluster_wait(): 63 of 64 have arrived, thread 7 of block 1 of the cluster has returned"});
  });
  for (const Grid& grid : {Grid{{3}, 32, 0, 2}, Grid{{17}, 32, 0, 17}, Grid{{1}, 32, 0, 0}})
    require_fault(launch<half_a_cluster>(grid, nullptr, {nullptr}), {"no device runs", "clusters of"});
}

}  // namespace

int main() {
  every_block_knows_its_rank();
  remote_loads_stores_and_arrivals();
  right_exchanges();
  planted_faults();
  planted_faults_of_order();
  lone_faults();
  return check::finish("clusters");
}
