// The thread team under stress: barriers that really hold threads together, regions of every width one after another,
// two callers at once, a fork in between, and the floating-point environment. Built under ThreadSanitizer too.
//   test_team           the checks
//   test_team emulated  the checks without forks: under qemu-user the child of a process with threads aborts in qemu
//   test_team latency   prints the cost of a region and of a barrier
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "runtime/cpu.hpp"
#include "runtime/team.hpp"
#include "runtime/threads.hpp"

namespace {

using fusedrnn::Barrier;
using fusedrnn::Team;
using fusedrnn::TeamLease;
using fusedrnn::usable_cpus;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "FAILED: %s\n", what);
  std::exit(1);
}

// Each thread writes its own plain slot, waits, and reads everybody's: a barrier that lets one through early shows as a
// wrong value, and to ThreadSanitizer as a race.
struct Exchange {
  Team* team;
  int32_t n, steps;
  std::vector<int64_t> slots;
  std::vector<int64_t> sums;
  Barrier barrier;
};

void exchange(void* context, int32_t index) {
  auto& x = *static_cast<Exchange*>(context);
  int64_t sum = 0;
  for (int32_t step = 0; step < x.steps; ++step) {
    x.slots[static_cast<size_t>(index)] = int64_t{step} * (index + 1);
    x.team->wait(x.team, &x.barrier, x.n);
    for (int32_t i = 0; i < x.n; ++i) sum += x.slots[static_cast<size_t>(i)];
    x.team->wait(x.team, &x.barrier, x.n);
  }
  x.sums[static_cast<size_t>(index)] = sum;
}

void check_exchange(Team* team, int32_t n, int32_t steps) {
  const auto count = static_cast<size_t>(n);
  Exchange x{team, n, steps, std::vector<int64_t>(count), std::vector<int64_t>(count), {}};
  team->parallel(team, n, exchange, &x);
  const int64_t want = int64_t{steps} * (steps - 1) / 2 * n * (n + 1) / 2;
  for (const int64_t sum : x.sums) require(sum == want, "every thread reads what all wrote before the barrier");
  require(x.barrier.arrived == 0, "a barrier is left ready for use");
}

void check_widths(int rounds) {
  for (int round = 0; round < rounds; ++round) {
    for (int size = 1; size <= 5; ++size) {
      fusedrnn::set_num_threads(size);
      TeamLease lease;
      require(lease.size() == size, "an idle team is lent at the size asked for");
      for (int32_t n = 1; n <= size; ++n) check_exchange(lease.team(), n, 20);
    }
  }
}

void count_visits(void* context, int32_t index) { static_cast<int*>(context)[index] += 1; }

void check_each_index_once() {
  fusedrnn::set_num_threads(4);
  TeamLease lease;
  int visits[4] = {};
  for (int region = 0; region < 3000; ++region) lease.team()->parallel(lease.team(), 4, count_visits, visits);
  for (const int n : visits) require(n == 3000, "each index runs exactly once a region");
  lease.team()->parallel(lease.team(), 0, count_visits, visits);
  require(visits[0] == 3000, "a region of no threads runs nothing");
}

// Workers that fell asleep are woken, and a caller that fell asleep is.
void nap(void* context, int32_t index) {
  if (index != 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  static_cast<int*>(context)[index] += 1;
}

void check_sleepers() {
  fusedrnn::set_num_threads(3);
  int visits[3] = {};
  for (int region = 0; region < 20; ++region) {
    TeamLease lease;
    lease.team()->parallel(lease.team(), 3, nap, visits);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  for (const int n : visits) require(n == 20, "sleepers wake");
}

// Polls until `holds`: what it waits for comes in microseconds, unless the machine has other things to do.
template <class Condition>
void wait_until(Condition holds, const char* what) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!holds()) require(std::chrono::steady_clock::now() < end, what);
}

// After work workers are awake for a while, then asleep; roused, they are awake without work, but only where the lease
// before ended just now.
void check_awake() {
  fusedrnn::set_num_threads(2);
  int visits[2] = {};
  const auto used = [&] {
    TeamLease lease;
    lease.team()->parallel(lease.team(), 2, count_visits, visits);
    return lease.awake();
  };
  const auto asleep = [] { return !TeamLease().awake(); };
  if (usable_cpus() < 2) {
    used();
    require(asleep(), "nobody spins where another needs the CPU");
    return;
  }
  for (int round = 0; round < 5; ++round) {
    wait_until(used, "workers spin after a region");
    wait_until(asleep, "workers fall asleep");
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    {
      TeamLease late;
      late.prewake();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      require(!late.awake(), "a call long after the last one rouses nobody");
    }
    wait_until(
        [] {
          {
            const TeamLease before;
          }
          TeamLease lease;
          if (lease.awake()) return true;
          lease.prewake();
          return false;
        },
        "roused workers are awake at the next call");
    const int before = visits[1];
    used();
    require(visits[1] == before + 1, "roused workers work");
  }
  TeamLease lease;
  require(!TeamLease().awake(), "a caller that got no team has nobody awake");
}

void check_two_callers() {
  fusedrnn::set_num_threads(3);
  const auto caller = [] {
    for (int i = 0; i < 400; ++i) {
      TeamLease lease;
      require(lease.size() == 3 || lease.size() == 1, "a busy team leaves the caller alone");
      check_exchange(lease.team(), lease.size(), 5);
    }
  };
  std::thread other(caller);
  caller();
  other.join();

  TeamLease first;
  require(first.size() == 3, "the team is free again");
  TeamLease second;
  require(second.size() == 1, "the team is lent to one call at a time");
}

#if defined(__x86_64__)
void read_mxcsr(void* context, int32_t index) {
  static_cast<unsigned*>(context)[index] = __builtin_ia32_stmxcsr() & ~0x3fu;  // without the sticky flags
}

void check_environment() {
  fusedrnn::set_num_threads(3);
  constexpr unsigned flush_and_round_up = 0x1f80 | 0x8040 | 0x4000;
  const unsigned before = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(flush_and_round_up);
  unsigned seen[3] = {};
  {
    TeamLease lease;
    lease.team()->parallel(lease.team(), 3, read_mxcsr, seen);
  }
  const unsigned after = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(before);
  for (const unsigned value : seen) require(value == 0x1f80, "kernels run with round to nearest and denormals kept");
  require(after == flush_and_round_up, "the caller's floating-point environment is restored");
}
#else
void check_environment() {}
#endif

// The child of a fork has no threads of the parent's and makes its own. ThreadSanitizer does not support threads
// started in the child of a process that had some; there the child only looks at the lease.
void check_fork() {
  fusedrnn::set_num_threads(3);
  for (int round = 0; round < 3; ++round) {
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);
#if !defined(__SANITIZE_THREAD__)
      TeamLease lease;
      require(lease.size() == 3, "the child starts threads of its own");
      check_exchange(lease.team(), 3, 50);
#endif
      _exit(0);
    }
    int status = -1;
    require(waitpid(child, &status, 0) == child && status == 0, "the child of a fork computes");
    TeamLease lease;
    check_exchange(lease.team(), 3, 50);
  }
}

// Forks while another thread keeps the team busy: the handlers wait for the call that runs.
void check_fork_while_busy() {
#if !defined(__SANITIZE_THREAD__)
  fusedrnn::set_num_threads(2);
  bool stop = false;
  std::thread busy([&] {
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
      TeamLease lease;
      check_exchange(lease.team(), lease.size(), 30);
    }
  });
  for (int round = 0; round < 20; ++round) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);
      TeamLease lease;
      _exit(lease.size() == 2 ? 0 : 1);
    }
    {
      TeamLease lease;  // the other thread's, or free: a fork gives away no team in use
      check_exchange(lease.team(), lease.size(), 30);
    }
    int status = -1;
    require(waitpid(child, &status, 0) == child && status == 0, "the child finds the team free");
  }
  __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
  busy.join();
#endif
}

void barriers(void* context, int32_t) {
  auto& x = *static_cast<Exchange*>(context);
  for (int32_t step = 0; step < x.steps; ++step) x.team->wait(x.team, &x.barrier, x.n);
}

void print_latency() {
  const auto seconds = [] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  };
  fusedrnn::set_num_threads(2);
  TeamLease lease;
  int visits[2] = {};
  constexpr int regions = 20000;
  double best_region = 1, best_barrier = 1;
  for (int repeat = 0; repeat < 9; ++repeat) {
    double start = seconds();
    for (int i = 0; i < regions; ++i) lease.team()->parallel(lease.team(), 2, count_visits, visits);
    best_region = std::min(best_region, (seconds() - start) / regions);
    Exchange x{lease.team(), 2, regions, {}, {}, {}};
    start = seconds();
    lease.team()->parallel(lease.team(), 2, barriers, &x);
    best_barrier = std::min(best_barrier, (seconds() - start) / regions);
  }
  std::printf("2 threads, best of 9 x %d: region %.2f us, barrier %.2f us\n", regions, best_region * 1e6,
              best_barrier * 1e6);
}

}  // namespace

int main(int count, char** arguments) {
  if (count > 1 && std::strcmp(arguments[1], "latency") == 0) {
    print_latency();
    return 0;
  }
  const bool emulated = count > 1 && std::strcmp(arguments[1], "emulated") == 0;
  alarm(300);  // a deadlock fails
  if (!emulated) check_fork();
  check_each_index_once();
  check_widths(3);
  check_sleepers();
  check_awake();
  check_two_callers();
  check_environment();
  if (!emulated) {
    check_fork();
    check_fork_while_busy();
  }
  std::puts(emulated ? "team: all checks passed, forks left out" : "team: all checks passed");
  return 0;
}
