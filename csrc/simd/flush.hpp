// Subnormal numbers taken as zero, for as long as an object of this type lives.
//
// The compiler does not know that arithmetic depends on the control register, so what is computed under it must read
// its operands from memory after the object is made, and leave its results in memory before the object is gone.
#pragma once

#include <stdint.h>

#include "simd/lanes.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

class FlushSubnormals {
 public:
#if defined(__x86_64__)
  FR_INLINE FlushSubnormals() {
    constexpr uint32_t operands = 1u << 6, results = 1u << 15;  // DAZ, FTZ: after rounding
    __asm__ volatile("stmxcsr %0" : "=m"(before_) : : "memory");
    set(before_ | operands | results);
  }
  FR_INLINE ~FlushSubnormals() { set(before_); }

 private:
  FR_INLINE static void set(uint32_t value) { __asm__ volatile("ldmxcsr %0" : : "m"(value) : "memory"); }
  uint32_t before_;
#elif defined(__aarch64__)
  FR_INLINE FlushSubnormals() {
    constexpr uint64_t both = uint64_t{1} << 24;  // FZ: operands, and results before rounding
    __asm__ volatile("mrs %0, fpcr" : "=r"(before_) : : "memory");
    set(before_ | both);
  }
  FR_INLINE ~FlushSubnormals() { set(before_); }

 private:
  FR_INLINE static void set(uint64_t value) { __asm__ volatile("msr fpcr, %0" : : "r"(value) : "memory"); }
  uint64_t before_;
#endif
};

}  // namespace fusedrnn::FUSEDRNN_ISA
