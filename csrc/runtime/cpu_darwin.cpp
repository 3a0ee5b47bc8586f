// Compiled by a cross-compiler; not yet run.
#if defined(__APPLE__)
#include <sys/sysctl.h>

#include <algorithm>

#include "runtime/cpu.hpp"

namespace fusedrnn {
namespace {

int64_t number(const char* name) {
  int64_t value = 0;
  size_t bytes = sizeof value;
  return sysctlbyname(name, &value, &bytes, nullptr, 0) == 0 ? value : 0;
}

}  // namespace

int logical_cpus() { return std::max(1, static_cast<int>(number("hw.activecpu"))); }

// Of the fast kind, where there are two: a step waits for the slowest of its threads.
int physical_cores() {
  const int64_t fast = number("hw.perflevel0.physicalcpu");
  return std::max(1, static_cast<int>(fast > 0 ? fast : number("hw.physicalcpu")));
}

double cpu_quota() { return 0; }

int64_t cache_bytes(int level) {
  const char* const fast[] = {"hw.perflevel0.l1dcachesize", "hw.perflevel0.l2cachesize", "hw.perflevel0.l3cachesize"};
  const char* const any[] = {"hw.l1dcachesize", "hw.l2cachesize", "hw.l3cachesize"};
  if (level < 1 || level > 3) return 0;
  const int64_t bytes = number(fast[level - 1]);
  return bytes > 0 ? bytes : number(any[level - 1]);
}

std::string cpu_model() {
  char text[128] = "";
  size_t bytes = sizeof text - 1;
  return sysctlbyname("machdep.cpu.brand_string", text, &bytes, nullptr, 0) == 0 ? text : "";
}

}  // namespace fusedrnn
#endif
