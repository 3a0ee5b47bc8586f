#include "runtime/threads.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "runtime/cpu.hpp"

namespace fusedrnn {
namespace {

std::atomic<int> chosen{0};

struct Default {
  int threads;
  std::string from;
};

// The number a variable starts with (OMP_NUM_THREADS may be a list), 0 when there is none.
int leading_number(const char* text, bool list) {
  char* end = nullptr;
  const long n = std::strtol(text, &end, 10);
  const bool whole = end != text && (*end == '\0' || (list && *end == ','));
  return whole && n >= 1 && n <= kMaxThreads ? static_cast<int>(n) : 0;
}

Default find_default() {
  const char* own = std::getenv("FUSEDRNN_NUM_THREADS");
  if (own != nullptr && *own != '\0') {
    const int n = leading_number(own, false);
    if (n == 0) {
      throw std::runtime_error("FUSEDRNN_NUM_THREADS must be a number in 1.." + std::to_string(kMaxThreads) +
                               ", it is '" + own + "'");
    }
    return {n, "FUSEDRNN_NUM_THREADS"};
  }
  // Another program's variable: what it does not say plainly is passed over.
  const char* openmp = std::getenv("OMP_NUM_THREADS");
  const int wanted = openmp != nullptr ? leading_number(openmp, true) : 0;
  if (wanted != 0) return {wanted, "OMP_NUM_THREADS"};
  const int cores = std::min(physical_cores(), kMaxThreads);
  if (usable_cpus() < cores) return {usable_cpus(), "cgroup CPU limit"};
  return {cores, "physical cores"};
}

const Default& default_threads() {
  static const Default found = find_default();
  return found;
}

}  // namespace

int num_threads() {
  const int n = chosen.load(std::memory_order_relaxed);
  return n != 0 ? n : default_threads().threads;
}

void set_num_threads(int n) {
  if (n < 1 || n > kMaxThreads) {
    throw std::invalid_argument("n must be in 1.." + std::to_string(kMaxThreads) + ", it is " + std::to_string(n));
  }
  chosen.store(n, std::memory_order_relaxed);
}

std::string num_threads_from() {
  return chosen.load(std::memory_order_relaxed) != 0 ? "set_num_threads" : default_threads().from;
}

}  // namespace fusedrnn
