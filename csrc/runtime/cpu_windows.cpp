// Compiled by a cross-compiler; not yet run.
#if defined(_WIN32)
#include <windows.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "runtime/cpu.hpp"

namespace fusedrnn {
namespace {

using Record = SYSTEM_LOGICAL_PROCESSOR_INFORMATION;

std::vector<Record> records() {
  DWORD bytes = 0;
  GetLogicalProcessorInformation(nullptr, &bytes);
  std::vector<Record> found(bytes / sizeof(Record));
  if (!found.empty() && !GetLogicalProcessorInformation(found.data(), &bytes)) found.clear();
  return found;
}

}  // namespace

int logical_cpus() {
  DWORD_PTR own = 0, all = 0;
  if (!GetProcessAffinityMask(GetCurrentProcess(), &own, &all)) return 1;
  int count = 0;
  for (; own != 0; own &= own - 1) ++count;
  return std::max(1, count);
}

int physical_cores() {
  int cores = 0;
  for (const Record& record : records()) cores += record.Relationship == RelationProcessorCore;
  return std::max(1, std::min(cores, logical_cpus()));
}

double cpu_quota() { return 0; }

int64_t cache_bytes(int level) {
  for (const Record& record : records())
    if (record.Relationship == RelationCache && record.Cache.Level == level && record.Cache.Type != CacheInstruction)
      return record.Cache.Size;
  return 0;
}

std::string cpu_model() {
  const char* const text = std::getenv("PROCESSOR_IDENTIFIER");
  return text != nullptr ? text : "";
}

}  // namespace fusedrnn
#endif
