#if defined(__linux__)
#include <sched.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>
#include <vector>

#include "runtime/cpu.hpp"

namespace fusedrnn {
namespace {

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::vector<int> allowed_cpus() {
  // Larger than cpu_set_t, which ends at 1024 CPUs.
  constexpr int most = 1 << 14;
  cpu_set_t* set = CPU_ALLOC(most);
  const size_t bytes = CPU_ALLOC_SIZE(most);
  CPU_ZERO_S(bytes, set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, bytes, set) == 0) {
    for (int cpu = 0; cpu < most; ++cpu) {
      if (CPU_ISSET_S(cpu, bytes, set)) cpus.push_back(cpu);
    }
  }
  CPU_FREE(set);
  return cpus;
}

// quota / period of a version 2 (`cpu.max`) or version 1 group in `folder`; 0 without a limit.
double quota_in(const std::string& folder) {
  double quota = 0, period = 0;
  std::istringstream both(first_line(folder + "/cpu.max"));
  if (!(both >> quota >> period)) {
    std::istringstream one(first_line(folder + "/cpu.cfs_quota_us")), other(first_line(folder + "/cpu.cfs_period_us"));
    if (!(one >> quota) || !(other >> period)) return 0;
  }
  return quota > 0 && period > 0 ? quota / period : 0;
}

// The tightest limit on the way from the process's group up to the root.
double tightest(const std::string& mount, std::string group) {
  double limit = 0;
  for (;;) {
    const double here = quota_in(mount + group);
    if (here > 0 && (limit == 0 || here < limit)) limit = here;
    const size_t slash = group.rfind('/');
    if (group.empty() || slash == std::string::npos) return limit;
    group.resize(slash);
  }
}

}  // namespace

int logical_cpus() { return std::max<int>(1, static_cast<int>(allowed_cpus().size())); }

int physical_cores() {
  std::set<std::string> cores;
  int unknown = 0;
  for (const int cpu : allowed_cpus()) {
    const std::string siblings =
        first_line("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
    if (siblings.empty()) {
      ++unknown;
    } else {
      cores.insert(siblings);
    }
  }
  return std::max<int>(1, static_cast<int>(cores.size()) + unknown);
}

double cpu_quota() {
  std::ifstream groups("/proc/self/cgroup");
  double limit = 0;
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    std::string group = line.substr(second + 1);
    if (group == "/") group.clear();
    double here = 0;
    if (controllers == ",,") {
      here = tightest("/sys/fs/cgroup", group);
    } else if (controllers.find(",cpu,") != std::string::npos) {
      here = tightest("/sys/fs/cgroup/cpu", group);
    }
    if (here > 0 && (limit == 0 || here < limit)) limit = here;
  }
  return limit;
}

int64_t cache_bytes(int level) {
  for (int index = 0; index < 8; ++index) {
    const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index);
    if (first_line(folder + "/level") != std::to_string(level) || first_line(folder + "/type") == "Instruction")
      continue;
    std::istringstream size(first_line(folder + "/size"));
    int64_t number = 0;
    char unit = ' ';
    size >> number >> unit;
    return number * (unit == 'K' ? 1024 : unit == 'M' ? 1024 * 1024 : 1);
  }
  return 0;
}

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) return line.substr(colon + 2);
  }
  return {};
}

}  // namespace fusedrnn
#endif
