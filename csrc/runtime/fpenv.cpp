#include "runtime/fpenv.hpp"

#include <atomic>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace fusedrnn {
namespace {

std::atomic<bool> flushes{false};

}  // namespace

#if defined(__x86_64__)
FpEnvironment::FpEnvironment() : saved_(_mm_getcsr()) {
  constexpr unsigned all_masked_rest_off = 0x1f80;                    // MXCSR's value at power-on
  constexpr unsigned flush_to_zero = 0x8000, denormals_are_0 = 0x40;  // results, operands
  const bool flush = flushes.load(std::memory_order_relaxed);
  _mm_setcsr(all_masked_rest_off | (flush ? flush_to_zero | denormals_are_0 : 0));
}
FpEnvironment::~FpEnvironment() { _mm_setcsr(static_cast<unsigned>(saved_)); }
#elif defined(__aarch64__)
FpEnvironment::FpEnvironment() {
  constexpr uint64_t flush_to_zero = uint64_t{1} << 24;
  const uint64_t wanted = flushes.load(std::memory_order_relaxed) ? flush_to_zero : 0;
  __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
  __asm__ volatile("msr fpcr, %0" : : "r"(wanted));
}
FpEnvironment::~FpEnvironment() { __asm__ volatile("msr fpcr, %0" : : "r"(saved_)); }
#else
FpEnvironment::FpEnvironment() : saved_(0) {}
FpEnvironment::~FpEnvironment() = default;
#endif

bool set_flush_denormals(bool flush) {
#if defined(__x86_64__) || defined(__aarch64__)
  flushes.store(flush, std::memory_order_relaxed);
  return true;
#else
  return !flush;
#endif
}

}  // namespace fusedrnn
