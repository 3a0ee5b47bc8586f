// What the machine offers this process.
#pragma once

#include <cstdint>
#include <string>

namespace fusedrnn {

int logical_cpus();    // that the affinity of the calling thread allows
int physical_cores();  // among those; hyper-threads of one core count once
double cpu_quota();    // CPUs the control groups grant, 0 when there is no limit
int usable_cpus();     // logical CPUs, or the quota rounded up where that is less; asked for once

int64_t cache_bytes(int level);  // data cache of the first CPU, 0 when unknown
std::string cpu_model();         // empty when unknown

}  // namespace fusedrnn
