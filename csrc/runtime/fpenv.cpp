#include "runtime/fpenv.hpp"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace fusedrnn {

#if defined(__x86_64__)
FpEnvironment::FpEnvironment() : saved_(_mm_getcsr()) {
  constexpr unsigned all_masked_rest_off = 0x1f80;  // MXCSR's value at power-on
  _mm_setcsr(all_masked_rest_off);
}
FpEnvironment::~FpEnvironment() { _mm_setcsr(static_cast<unsigned>(saved_)); }
#elif defined(__aarch64__)
FpEnvironment::FpEnvironment() {
  __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
  __asm__ volatile("msr fpcr, %0" : : "r"(uint64_t{0}));
}
FpEnvironment::~FpEnvironment() { __asm__ volatile("msr fpcr, %0" : : "r"(saved_)); }
#else
FpEnvironment::FpEnvironment() : saved_(0) {}
FpEnvironment::~FpEnvironment() = default;
#endif

}  // namespace fusedrnn
