// The probes of every ISA compiled in that this machine runs, the scalar one first.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "isa/detect.hpp"
#include "probe.hpp"

extern "C" {
extern const Probe fusedrnn_probe_scalar, fusedrnn_probe_avx2, fusedrnn_probe_avx512, fusedrnn_probe_neon;
}

// What this machine lacks is named: a run that covered less must not look like one that covered all.
inline std::vector<const Probe*> probes() {
  std::vector<const Probe*> found;
#if defined(FUSEDRNN_HAS_SCALAR)
  found.push_back(&fusedrnn_probe_scalar);
#endif
#if defined(FUSEDRNN_HAS_AVX2)
  if (fusedrnn::cpu_has_avx2())
    found.push_back(&fusedrnn_probe_avx2);
  else
    std::fputs("not covered, this CPU has no AVX2\n", stderr);
#endif
#if defined(FUSEDRNN_HAS_AVX512)
  if (fusedrnn::cpu_has_avx512())
    found.push_back(&fusedrnn_probe_avx512);
  else
    std::fputs("not covered, this CPU has no AVX-512\n", stderr);
#endif
#if defined(FUSEDRNN_HAS_NEON)
  found.push_back(&fusedrnn_probe_neon);
#endif
  return found;
}

inline const ProbeFunction& find(const Probe& probe, const std::string& name) {
  for (int i = 0; i < probe.count; ++i)
    if (probe.functions[i].name == name) return probe.functions[i];
  std::fprintf(stderr, "FAILED: no function %s in the probe of %s\n", name.c_str(), probe.isa);
  std::exit(1);
}

// The same call for both types.
inline void call(const ProbeFunction& f, const float* in, float* out, int64_t n) { f.f32(in, out, n); }
inline void call(const ProbeFunction& f, const double* in, double* out, int64_t n) { f.f64(in, out, n); }

// Equal bits; any NaN equals any other.
template <class T>
bool same_bits(T a, T b) {
  return (a != a && b != b) || std::memcmp(&a, &b, sizeof a) == 0;
}

// FNV-1a over the bits of values; NaN counts as one value.
class Hash {
 public:
  template <class T>
  void add(T value) {
    if (value != value) value = T(__builtin_nan(""));
    unsigned char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    for (unsigned char byte : bytes) state_ = (state_ ^ byte) * 0x100000001b3u;
  }
  uint64_t value() const { return state_; }

 private:
  uint64_t state_ = 0xcbf29ce484222325u;
};
