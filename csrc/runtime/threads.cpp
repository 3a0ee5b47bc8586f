#include "runtime/threads.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <thread>

namespace fusedrnn {
namespace {

std::atomic<int> chosen{0};

}  // namespace

int num_threads() {
  const int n = chosen.load();
  return n != 0 ? n : 1;
}

void set_num_threads(int n) {
  if (n < 1 || n > kMaxThreads) {
    throw std::invalid_argument("n must be 1.." + std::to_string(kMaxThreads) + ", it is " + std::to_string(n));
  }
  chosen.store(n);
}

std::string num_threads_from() { return chosen.load() != 0 ? "set_num_threads" : "default"; }

}  // namespace fusedrnn
