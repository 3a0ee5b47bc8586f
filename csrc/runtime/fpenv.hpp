// The floating-point environment of a kernel: round to nearest, denormals kept unless `set_flush_denormals` said
// otherwise, exceptions masked. Set on construction, the caller's restored on destruction (its sticky exception flags
// too).
#pragma once

#include <cstdint>

namespace fusedrnn {

class FpEnvironment {
 public:
  FpEnvironment();
  ~FpEnvironment();
  FpEnvironment(const FpEnvironment&) = delete;
  FpEnvironment& operator=(const FpEnvironment&) = delete;

 private:
  uint64_t saved_;
};

// Whether environments made from now on read and write denormal numbers as 0: the process's choice, off at first. False
// where the processor has no such mode; nothing is changed then.
bool set_flush_denormals(bool flush);

}  // namespace fusedrnn
