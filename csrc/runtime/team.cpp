#include "runtime/team.hpp"

#include <algorithm>
#include <cstdio>

#include "runtime/cpu.hpp"
#include "runtime/os.hpp"
#include "runtime/threads.hpp"
#include "runtime/wait.hpp"

namespace fusedrnn {
namespace {

// How long a thread spins before it sleeps: longer than the hand-over of a running step and the Python between two
// calls, too short to be noticed by other work. Not at all with more threads than CPUs, where the thread that is waited
// for needs the CPU of the one who spins.
constexpr int64_t kSpinNs = 50'000;

// How long a worker spins where work is likely to come: while a call goes on, and where calls follow each other, which
// is when one begins within this time after the one before. As long as waking may take, so never more than twice what
// the best choice would have cost. A training loop that makes its next batch in less keeps its workers.
constexpr int64_t kLikelyNs = 1'000'000;

// A worker's slot. Bits 31..1 of `word` count the regions it was called to, bit 0 says that it sleeps. `awake` is 0
// from when it goes to sleep until it is running again.
struct alignas(64) Slot {
  uint32_t word;
  uint32_t awake;
  int32_t index;
};

constexpr uint32_t kSleeping = 1u;            // in Slot::word and Barrier::phase
constexpr uint32_t kCallerSleeps = 1u << 31;  // in running_

class ProcessTeam : public Team {
 public:
  ProcessTeam() : Team{1, &ProcessTeam::run, &ProcessTeam::wait_at} {}

  bool try_lock() { return __atomic_exchange_n(&locked_, true, __ATOMIC_ACQUIRE) == false; }
  // With the lock just taken: whether the call before has ended just now.
  bool follows() {
    const bool follows = spin_ns() > 0 && now_ns() - ended_ns_ < kLikelyNs;
    __atomic_store_n(&follows_, follows, __ATOMIC_RELAXED);
    return follows;
  }
  void unlock() {
    ended_ns_ = now_ns();
    __atomic_store_n(&locked_, false, __ATOMIC_RELEASE);
  }

  // With the lock held, of the workers of this lease.
  bool all_awake() const {
    return std::all_of(slots_, slots_ + (size - 1), [](const Slot& slot) { return load(&slot.awake) != 0; });
  }
  void prewake() {
    for (int32_t i = 0; i < size - 1; ++i)
      if (__atomic_fetch_and(&slots_[i].word, ~kSleeping, __ATOMIC_ACQ_REL) & kSleeping) os_wake_all(&slots_[i].word);
  }

  // With the lock held: a team of `n` threads, the caller among them, or of as many as the system grants.
  void resize(int32_t n) {
    while (workers_ < n - 1 && start_worker()) ++workers_;
    size = std::min(n, workers_ + 1);
    __atomic_store_n(&spin_ns_, size > usable_cpus() ? 0 : kSpinNs, __ATOMIC_RELAXED);
  }

  // In the child of a fork the threads are gone; their slots are used again.
  void forget_workers() { workers_ = 0; }

 private:
  static void run(Team* team, int32_t n, void (*body)(void*, int32_t), void* context) {
    static_cast<ProcessTeam*>(team)->parallel_region(n, body, context);
  }
  static void wait_at(Team* team, Barrier* barrier, int32_t n) {
    if (n > 1) static_cast<ProcessTeam*>(team)->barrier(barrier, static_cast<uint32_t>(n));
  }

  int64_t spin_ns() const { return __atomic_load_n(&spin_ns_, __ATOMIC_RELAXED); }

  void parallel_region(int32_t n, void (*body)(void*, int32_t), void* context) {
    if (n > 1) {
      body_ = body;
      context_ = context;
      __atomic_store_n(&running_, static_cast<uint32_t>(n - 1), __ATOMIC_RELAXED);
      for (int32_t i = 0; i < n - 1; ++i) open(slots_[i]);
    }
    if (n > 0) body(context, 0);
    if (n > 1) join();
  }

  // Only the caller moves the count, so the new value is known; the exchange publishes body_ and context_.
  static void open(Slot& slot) {
    const uint32_t next = (__atomic_load_n(&slot.word, __ATOMIC_RELAXED) & ~kSleeping) + 2;
    if (__atomic_exchange_n(&slot.word, next, __ATOMIC_ACQ_REL) & kSleeping) os_wake_all(&slot.word);
  }

  void join() {
    if (spin_until([&] { return load(&running_) == 0; }, spin_ns())) return;
    uint32_t seen = __atomic_or_fetch(&running_, kCallerSleeps, __ATOMIC_ACQ_REL);
    while ((seen & ~kCallerSleeps) != 0) {
      os_sleep(&running_, seen);
      seen = load(&running_);
    }
  }

  void ended() {
    if (__atomic_sub_fetch(&running_, 1, __ATOMIC_ACQ_REL) == kCallerSleeps) os_wake_all(&running_);
  }

  void barrier(Barrier* barrier, uint32_t n) {
    // Read before arriving: afterwards the phase may move on at any time.
    const uint32_t phase = load(&barrier->phase) & ~kSleeping;
    if (__atomic_add_fetch(&barrier->arrived, 1, __ATOMIC_ACQ_REL) == n) {
      __atomic_store_n(&barrier->arrived, 0, __ATOMIC_RELAXED);
      if (__atomic_exchange_n(&barrier->phase, phase + 2, __ATOMIC_ACQ_REL) & kSleeping) {
        os_wake_all(&barrier->phase);
      }
      return;
    }
    sleep_while(&barrier->phase, phase);
  }

  // A worker waits until it is called to a region after `old`. Roused, it spins again.
  void wait_for_work(Slot& slot, uint32_t old) {
    const auto called = [&] { return (load(&slot.word) & ~kSleeping) != old; };
    for (;;) {
      __atomic_store_n(&slot.awake, 1, __ATOMIC_RELAXED);
      const int64_t latest = spin_ns() > 0 ? now_ns() + kLikelyNs : 0;
      bool likely;
      do {
        likely = __atomic_load_n(&locked_, __ATOMIC_RELAXED) || __atomic_load_n(&follows_, __ATOMIC_RELAXED);
        if (spin_until(called, spin_ns())) return;
      } while (likely && now_ns() < latest);
      __atomic_store_n(&slot.awake, 0, __ATOMIC_RELAXED);
      uint32_t expected = old;
      __atomic_compare_exchange_n(&slot.word, &expected, old | kSleeping, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
      while (load(&slot.word) == (old | kSleeping)) os_sleep(&slot.word, old | kSleeping);
    }
  }

  // Returns once the bits 31..1 of `word` differ from those of `old` (whose bit 0 is clear).
  void sleep_while(uint32_t* word, uint32_t old) {
    const auto moved = [&] { return (load(word) & ~kSleeping) != old; };
    if (spin_until(moved, spin_ns())) return;
    uint32_t expected = old;
    __atomic_compare_exchange_n(word, &expected, old | kSleeping, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    while (!moved()) os_sleep(word, old | kSleeping);
  }

  bool start_worker() {
    Slot& slot = slots_[workers_];
    slot.word = slot.awake = 0;
    slot.index = workers_ + 1;
    char name[24];
    std::snprintf(name, sizeof name, "fusedrnn-%d", slot.index);
    return os_start_thread(&ProcessTeam::worker, &slot, name);
  }

  static void* worker(void* argument);

  bool locked_ = false;
  int64_t ended_ns_ = 0;  // when the last lease did
  bool follows_ = false;  // whether the present or last lease began close to the end of the one before
  int32_t workers_ = 0;
  int64_t spin_ns_ = kSpinNs;
  void (*body_)(void*, int32_t) = nullptr;
  void* context_ = nullptr;
  alignas(64) uint32_t running_ = 0;
  Slot slots_[kMaxThreads] = {};
};

// Made on first use and never destroyed: at exit the workers sleep, and whatever runs then may still compute.
ProcessTeam* process_team() {
  static ProcessTeam* const team = [] {
    auto* made = new ProcessTeam;
    os_at_fork(
        [] {
          while (!process_team()->try_lock()) os_nap();
        },
        [] { process_team()->unlock(); },
        [] {
          process_team()->forget_workers();
          process_team()->unlock();
        });
    return made;
  }();
  return team;
}

void* ProcessTeam::worker(void* argument) {
  Slot& slot = *static_cast<Slot*>(argument);
  ProcessTeam& team = *process_team();
  uint32_t seen = 0;
  for (;;) {
    team.wait_for_work(slot, seen);
    seen = load(&slot.word) & ~kSleeping;
    {
      const FpEnvironment environment;
      team.body_(team.context_, slot.index);
    }
    team.ended();
  }
}

void run_alone(Team*, int32_t n, void (*body)(void*, int32_t), void* context) {
  if (n > 0) body(context, 0);
}

void wait_alone(Team*, Barrier*, int32_t) {}

Team alone{1, run_alone, wait_alone};

}  // namespace

Team* solo_team() { return &alone; }

TeamLease::TeamLease() : team_(&alone) {
  const int n = num_threads();
  if (n == 1) return;
  ProcessTeam* team = process_team();
  if (!team->try_lock()) return;
  team->resize(n);
  team_ = team;
  follows_ = team->follows();
}

bool TeamLease::awake() const { return team_ != &alone && static_cast<ProcessTeam*>(team_)->all_awake(); }

void TeamLease::prewake() {
  if (team_ != &alone && follows_) static_cast<ProcessTeam*>(team_)->prewake();
}

TeamLease::~TeamLease() {
  if (team_ != &alone) static_cast<ProcessTeam*>(team_)->unlock();
}

}  // namespace fusedrnn
