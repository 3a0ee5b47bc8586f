// The floating-point environment of a kernel: round to nearest, denormals neither flushed nor read as zero, exceptions
// masked. Set on construction, the caller's restored on destruction (its sticky exception flags too).
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

}  // namespace fusedrnn
