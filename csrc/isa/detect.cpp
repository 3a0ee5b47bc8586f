#include "isa/detect.hpp"

#include <string>

#include "runtime/cpu.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace fusedrnn {

#if defined(__x86_64__)
namespace {

struct Registers {
  unsigned a, b, c, d;
};

Registers cpuid(unsigned leaf, unsigned subleaf = 0) {
  Registers r{};
  __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);
  return r;
}

bool all(unsigned value, unsigned bits) { return (value & bits) == bits; }

// The register files that the operating system saves (XCR0). Asked for only when cpuid says xgetbv exists.
unsigned saved_registers() {
  unsigned low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

}  // namespace

bool cpu_has_avx2() {
  const unsigned c = cpuid(1).c;
  constexpr unsigned osxsave = 1u << 27, fma = 1u << 12, movbe = 1u << 22, f16c = 1u << 29, avx = 1u << 28;
  constexpr unsigned bmi1 = 1u << 3, avx2 = 1u << 5, bmi2 = 1u << 8, lzcnt = 1u << 5;
  constexpr unsigned xmm_ymm = 0x6;
  return all(c, osxsave | fma | movbe | f16c | avx) && all(cpuid(7).b, bmi1 | avx2 | bmi2) &&
         all(cpuid(0x80000001u).c, lzcnt) && all(saved_registers(), xmm_ymm);
}

bool cpu_has_avx512() {
  constexpr unsigned f = 1u << 16, dq = 1u << 17, cd = 1u << 28, bw = 1u << 30, vl = 1u << 31;
  constexpr unsigned opmask_zmm = 0xe0;
  return cpu_has_avx2() && all(cpuid(7).b, f | dq | cd | bw | vl) && all(saved_registers(), opmask_zmm);
}

namespace {

const char* ask_for_amx() {
  constexpr unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24, avx512_bf16 = 1u << 5;  // leaf 7 EDX; leaf 7.1 EAX
  constexpr unsigned configuration_and_data = 3u << 17;
  if (!cpu_has_avx512() || !all(cpuid(7).d, amx_bf16 | amx_tile) || !all(cpuid(7, 1).a, avx512_bf16))
    return "this CPU has no AMX for bfloat16";
  if (!all(saved_registers(), configuration_and_data)) return "the operating system does not save the tiles of AMX";
#if defined(__linux__)
  constexpr int request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM; tiles' number among the states
  if (syscall(SYS_arch_prctl, request_permission, tile_data) != 0)
    return "the operating system refuses this process the tiles of AMX (arch_prctl)";
  return nullptr;
#else
  return "tiles of AMX are asked for on Linux only";
#endif
}

}  // namespace

const char* why_no_amx() {
  static const char* const why = ask_for_amx();
  return why;
}
#else
bool cpu_has_avx2() { return false; }
bool cpu_has_avx512() { return false; }
const char* why_no_amx() { return "AMX is an extension of x86-64"; }
#endif

double barrier_flops() {
  // A barrier of two cores takes 70 ns on an EPYC, whose cores share a cache by eight, and 250 on a Xeon with a mesh
  // (Sapphire Rapids; docs/experiments.md). What the processor calls itself is all there is to tell them apart by.
  static const bool xeon = cpu_model().find("Xeon") != std::string::npos;
  return xeon ? 24e3 : 8e3;
}

const char* cpu_instruction_sets() {
  return cpu_has_avx512() ? "AVX2 and AVX-512" : cpu_has_avx2() ? "AVX2 and no AVX-512" : "neither AVX2 nor AVX-512";
}

}  // namespace fusedrnn
