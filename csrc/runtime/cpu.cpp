// What is the same for every operating system; the rest is in cpu_linux.cpp, cpu_darwin.cpp and cpu_windows.cpp.
#include "runtime/cpu.hpp"

#include <algorithm>
#include <cmath>

namespace fusedrnn {

int usable_cpus() {
  static const int cpus = [] {
    const double quota = cpu_quota();
    const int logical = logical_cpus();
    return quota > 0 ? std::min(logical, std::max(1, static_cast<int>(std::ceil(quota)))) : logical;
  }();
  return cpus;
}

}  // namespace fusedrnn
