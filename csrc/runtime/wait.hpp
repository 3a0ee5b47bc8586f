// Waiting for another thread: a bounded spin, then sleep (os.hpp). Both waits work on one 32-bit word whose change they
// wait for; a spare bit of it says that a thread sleeps, so that a wake costs a system call only then.
#pragma once

#include <chrono>
#include <cstdint>

namespace fusedrnn {

inline uint32_t load(const uint32_t* word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }

inline void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

inline int64_t now_ns() {
  using std::chrono::steady_clock;
  return std::chrono::duration_cast<std::chrono::nanoseconds>(steady_clock::now().time_since_epoch()).count();
}

// Spins until done() for at most about `budget_ns`; says whether it came. The clock is read once in a while only.
template <class Done>
bool spin_until(Done done, int64_t budget_ns) {
  if (done()) return true;
  if (budget_ns == 0) return false;
  const int64_t end = now_ns() + budget_ns;
  do {
    for (int i = 0; i < 64; ++i) {
      pause_cpu();
      if (done()) return true;
    }
  } while (now_ns() < end);
  return false;
}

}  // namespace fusedrnn
